#!/usr/bin/python3
"""mailer.py

The application's worker: a mail for each event of an order, kept in the table mail.
It connects as psql does (PGHOST, PGDATABASE, ...). SIGTERM ends it after the batch in
hand.
"""
from worker import Worker


def send_mail(db, event):
    # Of an order that is deleted by now, or truncated, nobody is to be told. Its events
    # are delivered all the same, and the deletion after them.
    [position] = db.execute('SELECT es_position(%s, %s)', [event.stream, event.version]).fetchone()
    if position is None:
        return
    # The order as it was at this event; a read model may be behind it, or ahead.
    [state] = db.execute('SELECT state FROM es_replay(%s, until_version => %s)',
                         [event.stream, event.version]).fetchone()
    # The event's id makes the mail known should the event come again, after es_rewind or
    # es_replay_parked say.
    db.execute('INSERT INTO mail (event_id, recipient, subject) VALUES (%s, %s, %s) ON CONFLICT DO NOTHING',
               [event.event_id, state['email'], f'{event.stream}: {event.type}'])


if __name__ == '__main__':
    Worker('mailer', send_mail).run()
