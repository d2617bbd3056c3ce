/*
 * command.h
 *		A command of the server's administrator, and what it prints.
 */
#ifndef ES_SECRET_COMMAND_H
#define ES_SECRET_COMMAND_H

#include "base/base.h"

/* A command that is run. */
typedef struct EsCommand
{
	const char *line;			/* for the shell */
	int			timeout;		/* ms */
	char	   *output;			/* what it prints */
	int			room;			/* bytes; more is not read */
	int			len;
	const char *fault;			/* why it has not printed it, for a DETAIL;
								 * NULL: it has */
} EsCommand;

extern void es_command_run(EsCommand *command);

#endif							/* ES_SECRET_COMMAND_H */
