/*
 * record_keys: what a record is found by in an index (store/index.h): joins model/lookup and
 * store/index. Pure; the record_keys_fn that the composition gives to the store.
 */
#ifndef API_RECORD_KEYS_H
#define API_RECORD_KEYS_H

#include "store/index.h"

/* context: LOOKUP_SCRATCH_BYTES of scratch (model/lookup.h), one per calling thread. Every kind of
 * record is asked for every field, so that what query_matches finds, an index finds, too. Empty
 * values are no keys. */
void record_keys(void *context, const struct record *record, record_on_key on_key, void *to);

#endif
