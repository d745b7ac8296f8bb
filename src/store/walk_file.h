/*
 * walk_file: one segment file, raw or compacted, as a sequence of batches at places. Private to
 * those who read whole logs (log_walk, recovery, verify); any one thread; pure reading.
 *
 * A PLACE is where a batch begins: in a raw file the offset, in a compacted one the offset that the
 * batch would have if the frames lay decoded, one after the other, behind the header block. In both
 * forms the first batch is at WALK_FILE_BEGIN and walk_file_stride leads to the next.
 *
 * A raw file ends, for batches, at the file_bytes of its header: the index and the footer behind it
 * are no batches. A compacted file needs a good header and footer; without one of them it cannot be
 * opened (ERR_CORRUPT, with a text). A frame that cannot be decoded is a hole: no batch is found at
 * the places in it, and walk_file_skip leads behind it. Without a good index the whole file is one.
 *
 * Memory: one window of 1 MiB (compacted: one frame and what it takes stored), larger only while a
 * larger batch is looked at.
 */
#ifndef STORE_WALK_FILE_H
#define STORE_WALK_FILE_H

#include "core/base.h"
#include "core/err.h"
#include "store/file_io.h"
#include "store/sealed.h"
#include "store/segment.h"

#define WALK_FILE_BEGIN STORE_BLOCK_BYTES

struct walk_batch {
    struct batch_header header;
    struct slice bytes;   /* header and payload as they were written; borrowed like payload */
    struct slice payload; /* borrowed until the next walk_next */
    struct slice padding; /* likewise: up to the next block; empty in a compacted file */
    const char *name;     /* of the file, below the data directory */
    uint64_t offset;      /* in the file; of the frame that holds it in a compacted one */
};

struct walk_file {
    struct file_io *io;
    enum segment_form form;
    bool is_open;
    struct file file;
    char name[SEGMENT_NAME_BYTES]; /* with the directory */
    uint64_t file_bytes;           /* of the whole file */
    uint64_t end;                  /* no batch reaches behind this place */
    struct segment_header header;
    bool has_footer;          /* sealed or compacted */
    bool has_footer_magic;    /* there is what no crash leaves: a footer, good or damaged later */
    bool is_newer;            /* the footer of a raw file was written by a newer version */
    char footer_problem[160]; /* why the bytes behind a raw file's batches are no footer */
    struct segment_footer footer;

    bool
        reads_around; /* set by the owner: blocks of a raw file that cannot be read (EIO) are zeroes, and so
                          damage, instead of an error */
    uint8_t *window; /* the bytes of places [window_at, window_at + window_bytes) */
    uint64_t window_room;
    uint64_t window_at;
    uint64_t window_bytes;

    /* Compacted only; the index is read with the first batch. */
    char index_problem[160];
    uint8_t *index_blob;
    struct index index;
    uint64_t *frame_at; /* place of each frame, and of the end */
    uint8_t *stored;    /* one frame as it is in the file */
    uint64_t stored_room;
    struct frame_reader *frames;
};

/* Zeroed before. Opens the file of that form, reads header and footer.
 * ERR_CORRUPT or ERR_VERSION: the file cannot be what its name says; -errno (-ENOENT: not there).
 * After a failure it is closed. */
int walk_file_open(struct walk_file *walk, struct file_io *io, uint64_t id, enum segment_form form,
                   struct err *err) MUST_USE;
/* The same, for who goes on without the file: one that is there but whose header or footer cannot be
 * read, also when asked a second time, is ERR_CORRUPT as well. -EIO: it cannot be opened or measured. */
int walk_file_open_or_damaged(struct walk_file *walk, struct file_io *io, uint64_t id,
                              enum segment_form form, struct err *err) MUST_USE;
/* Keeps the memory for the next open. */
void walk_file_close(struct walk_file *walk);
/* Closes and gives the memory back. */
void walk_file_end(struct walk_file *walk);
/* What was read ahead may be old by now: read it again. */
void walk_file_forget(struct walk_file *walk);

/* The header of a batch at place: 1 when it is one of this use of the file and lies inside it; 0
 * when not (why in reason); -errno. */
int walk_file_header(struct walk_file *walk, uint64_t place, struct batch_header *header,
                     struct err *reason) MUST_USE;
/* The whole batch, checksums and framing: 1 valid by itself; 0 not; -errno. */
int walk_file_batch(struct walk_file *walk, uint64_t place, struct walk_batch *batch,
                    struct err *reason) MUST_USE;
/* Does the block at place begin with something? 1, 0, -errno. */
int walk_file_has_bytes(struct walk_file *walk, uint64_t place, struct err *reason) MUST_USE;

/* From a batch to the next. Pure. */
uint64_t walk_file_stride(const struct walk_file *walk, const struct batch_header *header);
/* The next place where a batch may begin though the one at place is invalid. A valid header there
 * (NULL: none) is only trusted in a compacted file. Pure. */
uint64_t walk_file_skip(const struct walk_file *walk, uint64_t place,
                        const struct batch_header *header);
/* Where in the file that is, for people. Pure. */
uint64_t walk_file_offset(const struct walk_file *walk, uint64_t place);
/* A place at or before the batch that holds lsn, as near as the index of a compacted file knows. */
uint64_t walk_file_seek(struct walk_file *walk, uint64_t lsn);
/* The entry (compacted) whose frame holds place; walk->index.entry_count when none. Pure. */
uint32_t walk_file_frame(const struct walk_file *walk, uint64_t place);

/* The blob that the footer names, its checksum and its order. Allocates *blob (mem_free), also when
 * it fails it may be NULL. 0, ERR_CORRUPT, -errno. */
int walk_index_read(uint8_t **blob, struct index *index, const struct walk_file *walk,
                    struct err *err) MUST_USE;

#endif
