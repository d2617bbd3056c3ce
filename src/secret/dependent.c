/*
 * dependent.c
 *		What parts further up have to do when subjects are shredded.
 *
 * Read models are made of what is protected, and know of it; what is protected knows nothing
 * of them.  So they are told by hooks.
 */
#include "secret/dependent.h"

EsDependentHooks es_dependent_hooks;
