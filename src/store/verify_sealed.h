/*
 * verify_sealed: what a sealed or compacted segment says of itself (footer, index, filters) against
 * the batches that log_walk found in it. Private to verify; one thread; reads only the index.
 *
 * One check serves for one segment after the other. Where batches of the segment were lost or not
 * seen, what can only be right for all of them together (counts, digest) is not asked: the loss
 * itself has been told.
 */
#ifndef STORE_VERIFY_SEALED_H
#define STORE_VERIFY_SEALED_H

#include "store/log_walk.h"

struct sealed_check;

/* Tells one fault: in which file, where, near which LSN. */
typedef void (*sealed_on_fault)(void *context, const char *name, uint64_t offset, uint64_t lsn,
                                const char *what);

struct sealed_check_options {
    sealed_on_fault on_fault;
    void *context;
    record_keys_fn keys; /* may be NULL */
    void *keys_context;
};

struct sealed_check *sealed_check_new(const struct sealed_check_options *options);
void sealed_check_free(struct sealed_check *check);
/* Takes up the segment of that file (which has a footer) and reads its index. is_partial: its
 * batches will not be seen from the first on. 0 or -errno. */
int sealed_check_begin(struct sealed_check *check, const struct walk_file *file, bool is_partial,
                       struct err *err) MUST_USE;
/* Is that segment, in that form, the one taken up? */
bool sealed_check_is_of(const struct sealed_check *check, const struct walk_file *file);
/* The next batch of the segment. */
void sealed_check_batch(struct sealed_check *check, const struct walk_batch *batch);
/* Batches of it, if it is taken up, are not seen. */
void sealed_check_miss(struct sealed_check *check);
/* Compares; nothing is taken up after it. */
void sealed_check_end(struct sealed_check *check);

#endif
