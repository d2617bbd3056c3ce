/*
 * doctor.h
 *		What is wrong with the store, or holds something back, and what helps.
 */
#ifndef ES_HEALTH_DOCTOR_H
#define ES_HEALTH_DOCTOR_H

#include "base/base.h"

extern void es_doctor_init(void);

#endif							/* ES_HEALTH_DOCTOR_H */
