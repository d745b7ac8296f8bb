/*
 * app_witness: whoever has seen the log besides the log itself, asked at start how long it was (store_options.witness). The rooms
 * know one witness each; here they are together. Main thread.
 */
#ifndef APP_WITNESS_H
#define APP_WITNESS_H

#include "core/err.h"
#include "store/lineage.h"

/* context: the struct config. As store_options.witness. */
int app_witness(void *context, const struct lineage *lineage, struct lineage_witness *witness,
                struct err *err) MUST_USE;

#endif
