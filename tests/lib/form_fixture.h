/*
 * form_fixture: seals and compacts raw segments by hand, with the encoders of index.h, sealed.h
 * and frame.h only, never the archive: readers tested against what the archive writes would share
 * its mistakes. Takes every valid batch that follows the one before within the file as part of the
 * log. Everything is durable at once.
 */
#ifndef FORM_FIXTURE_H
#define FORM_FIXTURE_H

#include "store/file_io.h"
#include "store/sealed.h"

struct form_options {
    uint64_t block_bytes; /* an index block is closed when it has reached this; 0: as the store's */
    uint64_t
        seq_max; /* batches behind it are not in the log: written again elsewhere; 0: all are */
    record_keys_fn keys; /* NULL: no filters */
    void *keys_context;
    /* May change anything of the footer before it is written (NULL: nothing does). */
    void (*on_entry)(uint32_t i, struct index_entry *entry); /* likewise, of an index entry */
    void (*on_footer)(struct segment_footer *footer);
};

/* Appends index and footer to log/ID.seg. */
void form_fixture_seal(struct file_io *io, uint64_t id, const struct form_options *options);
/* Writes log/ID.slc beside log/ID.seg, which stays. */
void form_fixture_compact(struct file_io *io, uint64_t id, const struct form_options *options);
/* The same, and removes log/ID.seg. */
void form_fixture_replace(struct file_io *io, uint64_t id, const struct form_options *options);
void form_fixture_remove(struct file_io *io, const char *name);

#endif
