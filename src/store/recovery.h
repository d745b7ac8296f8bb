/*
 * recovery: what recover.c and recover_walk.c share: the state of one recovery, and how segment
 * files are found and read. Private to those two. Main thread, before any other runs.
 *
 * One whole segment at a time is in memory, zeroes where it cannot be read, so that every question
 * about it (what comes later, what is the last byte that is not zero) is a look at memory. A file
 * that cannot be opened, measured or listed fails the start; one that cannot be read does not: the
 * walk decides what that means.
 */
#ifndef STORE_RECOVERY_H
#define STORE_RECOVERY_H

#include "store/recover.h"
#include "store/walk_file.h"

#define RECOVERY_HISTORY 4u /* a later segment may repeat STORE_WRITES_IN_FLIGHT_MAX batches */

/* One segment, as the first two blocks and the last one of its file show it. */
struct found {
    uint64_t id;
    bool has_raw;
    bool has_compacted;
    enum segment_form form; /* the file that counts */
    uint64_t bytes;         /* of a raw file, without what sealing put behind the batches */
    uint64_t stored_bytes;  /* of the file */
    bool has_footer;        /* sealed or compacted: what it says need not be walked */
    struct segment_footer footer;
    bool is_bad;       /* the file cannot be what its name says: nothing in it counts */
    char problem[160]; /* of the file, or of a compacted one that was passed over; or empty */
    struct segment_header header;
    struct batch_header first; /* of a compacted one as its footer tells it */
    bool has_header;           /* decoded, or put together from the first batch */
    bool is_header_damaged;
    bool has_first;
    bool must_walk;
    /* What the segments behind it say, in their first headers and footers: */
    uint64_t later_durable_lsn; /* the largest; 0: nothing */
    uint64_t later_first_seq;   /* the smallest that one of them begins with; UINT64_MAX: none */
};

/* Where the log stands after a batch. */
struct point {
    uint64_t seq;
    uint64_t lsn;
    uint64_t keyed_lsn;
    uint64_t origin_lsn;
    uint32_t crc;
    bool is_crc_known; /* false behind a gap: the next batch's previous_crc proves nothing */
};

struct recovery {
    const struct recover_options *options;
    struct file_io *io;
    struct recovery_report *report;
    struct found *found;
    size_t found_count;
    size_t found_capacity;
    uint8_t *buffer; /* one whole segment, zeroes where it cannot be read */
    uint64_t buffer_bytes;
    bool has_read_error;
    uint64_t unreadable_at; /* the first block that cannot be read */
    struct walk_file file;  /* footers, and compacted segments */
    int64_t now_ns;
    bool is_started; /* point is known */
    struct point point;
    struct point history[RECOVERY_HISTORY];
    uint64_t history_count;
    uint64_t durable_lsn; /* D so far */
    bool is_tail_damaged; /* the last used segment ends in corruption: not appended to */
    uint64_t end;         /* in the segment walked last */
};

/* One line per finding for the report; what does not fit is counted all the same. */
void recovery_tell(struct recovery *recovery, const char *format, ...) PRINTF_LIKE(2, 3);

/* Removes what an interrupted preparation left; lists and sorts the segments. */
int recovery_list(struct recovery *recovery, struct err *err) MUST_USE;
/* Looks at the first two blocks and the footer of every listed segment, notes what the later ones
 * tell of each, and maps the buffer for the largest. */
int recovery_probe(struct recovery *recovery, struct recovered *recovered,
                   struct err *err) MUST_USE;
/* Keys of a batch built then still count. Any time is allowed, also one that nobody can have built
 * at. Pure. */
bool recovery_is_fresh(const struct recovery *recovery, int64_t built_at_ns);
/* What a footer says of its segment's first batch: enough to align the log with it. Pure. */
struct batch_header recovery_footer_first(const struct segment_footer *footer);
/* The whole raw segment into the buffer, synced before, so that nothing that is seen can vanish. */
int recovery_load(struct recovery *recovery, struct found *found, struct err *err) MUST_USE;

/* Of the loaded segment: a valid header of this use of the file at offset. Pure. */
bool recovery_header_at(const struct recovery *recovery, const struct found *found, uint64_t offset,
                        struct batch_header *header);
/* Of the loaded segment: some batch in it has a valid header, so it belongs to the log. Pure. */
bool recovery_has_any_batch(const struct recovery *recovery, const struct found *found);
bool recovery_is_zero(const uint8_t *data, uint64_t bytes);

#endif
