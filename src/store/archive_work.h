/*
 * archive_work: what archive.c (the agent) and the archive_*.c (its table and its kinds of work)
 * share. Private to those; the archive's thread.
 *
 * THE TABLE has every segment that the writer has put a durable batch into and that is still there,
 * oldest first, the active one last. A segment is in the view as long as it is in the table and its
 * file can be read. Each kind of work (sealing, compacting, expiring) has at most one segment under
 * way, is cut into steps of about one block, and can be dropped between any two steps: what is on
 * disk then is a state that archive_start and recovery know.
 *
 * A step function returns true when it did something, false when there is nothing for it to do now.
 * A failure is counted, logged, ends the work under way, and holds that kind of work back until
 * retry_at_ns.
 */
#ifndef STORE_ARCHIVE_WORK_H
#define STORE_ARCHIVE_WORK_H

#include "store/archive.h"
#include "store/digest.h"
#include "store/frame.h"
#include "store/index.h"
#include "store/log_walk.h"
#include "store/sealed.h"
#include "store/segment.h"

#include <stdatomic.h>

struct archive_segment {
    uint64_t id;
    struct view_segment *view; /* a reference; NULL: its file cannot be used, it only waits to
                                  expire */
    uint64_t bytes;            /* of its file, as counted in log_bytes */
    uint64_t twin_bytes;       /* of the raw file beside a compacted one; 0: there is none */
    bool has_twin;
    bool
        must_sync; /* found beside its twin at a start: perhaps only the page cache has the compacted
                       file, and its name */
    bool is_compacted; /* which file view NULL stands for */
    bool is_kept_raw;  /* damaged or unreadable: never compacted */
};

/* Growing memory, page-aligned for direct I/O; given back when it was grown for a giant. */
struct archive_buffer {
    uint8_t *data;
    uint64_t room;
};

struct archive_seal {
    struct log_walk *walk;    /* NULL: none is open */
    uint64_t active_at_open;  /* archive->active_seen when it was opened */
    uint64_t ended_at_active; /* active_seen when the log ended before a later segment; 0: not so */
    struct walk_batch batch;
    bool has_batch;    /* batch was read and not yet used */
    bool is_after_gap; /* damage lies between the batch used last and the next one */
    uint64_t id;       /* being sealed; 0: none */
    uint64_t end;      /* in its file: behind the batch used last */
    struct index_builder *builder;
    struct digest *digest;
    struct segment_footer footer;
    uint64_t retry_at_ns;
    uint64_t
        unreadable_id; /* the segment that could not be read last time, and how often in a row */
    unsigned unreadable_count;
};

enum compact_phase {
    COMPACT_NONE = 0,
    COMPACT_WRITE, /* block after block into the temporary file */
    COMPACT_CHECK, /* synced; block after block read back */
    COMPACT_NAME,  /* proven; only the name is missing */
};

struct archive_compact {
    enum compact_phase phase;
    uint64_t id;
    struct view_segment *from; /* a reference */
    struct file raw, out;
    bool has_raw, has_out;
    struct archive_buffer stored, packed, frame, blob;
    uint64_t blob_bytes;
    struct index index; /* of the raw segment, in blob */
    uint8_t *entries;   /* of the compacted one */
    uint32_t entry;     /* next to do */
    uint64_t at;        /* in the temporary file */
    uint64_t out_bytes; /* of it, complete */
    struct segment_footer footer;
    struct digest *digest;
    struct frame_writer *writer;
    struct frame_reader *reader;
    uint64_t retry_at_ns;
    uint64_t twin_retry_at_ns;
};

/* While records come in, what was read is paid for with time before more is: sealing at the
 * ARCHIVE_SEAL_SHAREth part of the price, because it is that much cheaper. */
struct archive_pace {
    uint64_t at_ns; /* nothing before this */
    uint64_t records_seen;
    uint64_t busy_until_ns;
};

#define ARCHIVE_SEAL_SHARE 2u

struct archive_expire {
    bool is_leaving; /* out of the table, its files may still be there */
    struct archive_segment leaving;
    bool needs_sync;
    uint64_t retry_at_ns;
};

/* See age_clock_ns in archive_expire.c. */
struct archive_clock {
    bool is_set;
    int64_t real_ns; /* when it was last believed, and the monotonic time of that */
    uint64_t mono_ns;
    uint64_t doubt_until_ns; /* 0: no doubt */
};

struct archive {
    struct archive_options options;
    struct file_io *io;
    struct store_status *status;
    struct archive_segment *segments;
    size_t count;
    size_t room;
    bool is_node_known;    /* log_node is: false while a start fills the table */
    struct ulid log_node;  /* of the log as a start found it: options.node, or an older one */
    uint64_t active_seen;  /* W2 as last looked at */
    uint64_t reopen_at_ns; /* when to try again those that could not be opened */
    bool is_view_stale;    /* the table has changed since the last view */
    bool has_error;        /* the last step of some work failed: log it once */
    struct archive_seal seal;
    struct archive_compact compact;
    struct archive_expire expire;
    struct archive_clock clock;
    struct archive_pace pace;
    bool is_urgent; /* over the limit, and something may leave */
    bool hurries;   /* what on_hurry was told last */
    uint8_t *block; /* STORE_BLOCK_BYTES, aligned: headers and footers */
    _Atomic bool stop;
};

/* After reading bytes. */
void archive_pay(struct archive *archive, uint64_t now_ns, uint64_t bytes);
bool archive_seal_step(struct archive *archive, uint64_t now_ns);
bool archive_compact_step(struct archive *archive, uint64_t now_ns);
bool archive_expire_step(struct archive *archive, uint64_t now_ns);
/* Drop what is under way (for segment id; 0: whatever it is) and keep the memory. */
void archive_seal_drop(struct archive *archive, uint64_t id);
void archive_compact_drop(struct archive *archive, uint64_t id);
void archive_seal_close(struct archive *archive);
void archive_compact_close(struct archive *archive);

/* Of the copy that compact has under way: block compact->entry; then all the rest. */
int archive_check_block(struct archive *archive, struct err *err) MUST_USE;
int archive_check_whole(struct archive *archive, struct err *err) MUST_USE;
int archive_bad_copy(struct err *err, const char *what) MUST_USE;

/* Every segment below this id is complete: nothing will be written to it, and all of it that
 * belongs to the log is decided. */
uint64_t archive_complete_below(const struct archive *archive);
/* A new last entry, without a view. */
struct archive_segment *archive_add(struct archive *archive, uint64_t id);
/* The same with the raw file as it is for a view; nothing when there is no such file. */
void archive_add_active(struct archive *archive, uint64_t id);
/* Adds what the writer has begun since the last look. False: nothing. */
bool archive_look_for_active(struct archive *archive);
/* What the disk refused to read once it may read again. */
void archive_reopen_unreadable(struct archive *archive, uint64_t now_ns);
/* As view_segment_open; ERR_CORRUPT for a file of another node. */
int archive_view_open(struct view_segment **view, const struct archive *archive, uint64_t id,
                      enum view_state state, struct err *err) MUST_USE;
/* Once all files are in the table: whose log it is, as recovery decides it; the views of other nodes
 * leave the table. */
void archive_refuse_strangers(struct archive *archive);
void archive_tell_unreadable(struct archive *archive, uint64_t id, const struct err *err);
struct archive_segment *archive_find(struct archive *archive, uint64_t id);
/* Replaces the segment's view (the reference is taken over) and counts its bytes anew. */
void archive_replace(struct archive *archive, struct archive_segment *segment,
                     struct view_segment *view);
/* The first LSN that the segments from index on are known to hold; 0: not known. */
uint64_t archive_first_lsn(const struct archive *archive, size_t index);
/* Publishes the table as the view that readers get from now on. */
void archive_publish(struct archive *archive);
/* The raw files of compacted segments: false when there is none, else unlinks one. */
bool archive_twins_step(struct archive *archive, uint64_t now_ns);

/* Counts and logs a failure; returns when to try again. */
uint64_t archive_failed(struct archive *archive, uint64_t now_ns, const char *what,
                        const struct err *err);
void archive_stat_add(_Atomic uint64_t *to, uint64_t n);
void archive_stat_set(_Atomic uint64_t *to, uint64_t value);
uint64_t archive_stat(const _Atomic uint64_t *from);
int archive_buffer_fit(struct archive_buffer *buffer, uint64_t bytes, struct err *err) MUST_USE;
void archive_buffer_free(struct archive_buffer *buffer);

#endif
