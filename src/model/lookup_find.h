/*
 * lookup_find: does a text contain a part? For texts of the length of a message, where memmem()
 * spends most of its time on tables before it begins. Private to the room. Pure.
 */
#ifndef MODEL_LOOKUP_FIND_H
#define MODEL_LOOKUP_FIND_H

#include "core/base.h"

/* part is not empty. Time is linear in the text's bytes for long ones; short ones may cost their
 * length times that of part, which only texts made for it do. */
bool lookup_find(struct slice text, struct slice part);

#endif
