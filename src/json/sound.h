/*
 * sound.h
 *		Whether a jsonb can be walked over.
 */
#ifndef ES_JSON_SOUND_H
#define ES_JSON_SOUND_H

#include "base/base.h"

#include "utils/jsonb.h"

extern bool es_sound_jsonb(const Jsonb *json);

#endif							/* ES_JSON_SOUND_H */
