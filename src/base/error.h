/*
 * error.h
 *		SQLSTATEs of the event store, and errors of what users have us run.
 */
#ifndef ES_BASE_ERROR_H
#define ES_BASE_ERROR_H

#include "base/base.h"

/* SQLSTATE class VE, see "Errors" in doc/eventstore.md. */
#define ES_ERRCODE_WRONG_EXPECTED_VERSION	MAKE_SQLSTATE('V','E','0','0','1')
#define ES_ERRCODE_APPEND_ONLY_VIOLATION	MAKE_SQLSTATE('V','E','0','0','2')
#define ES_ERRCODE_STREAM_DELETED			MAKE_SQLSTATE('V','E','0','0','3')
#define ES_ERRCODE_UNDEFINED_OBJECT			MAKE_SQLSTATE('V','E','0','0','4')
#define ES_ERRCODE_SCHEMA_VIOLATION			MAKE_SQLSTATE('V','E','0','0','5')
#define ES_ERRCODE_INCOMPATIBLE_SCHEMA		MAKE_SQLSTATE('V','E','0','0','6')
#define ES_ERRCODE_SUBSCRIPTION_FENCED		MAKE_SQLSTATE('V','E','0','0','7')
#define ES_ERRCODE_STORE_CORRUPT			MAKE_SQLSTATE('V','E','0','0','8')
#define ES_ERRCODE_HANDLER_FAILED			MAKE_SQLSTATE('V','E','0','0','9')
#define ES_ERRCODE_EVENT_ID_CONFLICT		MAKE_SQLSTATE('V','E','0','1','0')
#define ES_ERRCODE_CONDITION_FAILED			MAKE_SQLSTATE('V','E','0','1','1')

extern bool es_error_ends_statement(int sqlerrcode);
extern bool es_error_passes_through(int sqlerrcode);
extern const char *es_error_detail(const ErrorData *cause);

/*
 * What runs was given plain text of protected fields, which the message of an error may
 * quote: that must not be kept, nor logged.  Set around a call, and set back also if it fails.
 */
extern bool es_error_is_secret;
extern void es_error_withhold(ErrorData *error);
extern void es_error_hide_context(void *arg);
extern void es_error_cut(ErrorData *error);
ES_NORETURN extern void es_error_append_only(const char *action, const char *relation);
ES_NORETURN extern void es_error_report_failure(MemoryContext context);

#endif							/* ES_BASE_ERROR_H */
