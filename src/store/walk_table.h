/*
 * walk_table: which segments the log has, as the directory and the first bytes of each file say.
 * Private to log_walk, which owns it; any one thread; pure reading.
 *
 * Listing it again keeps what is known of segments that have begun. Files come and go while a
 * server compacts and expires: a file that is listed and then not there is looked for in its other
 * form, and is left out when that is not there either. A directory that changes while it is listed
 * may hide a file, so a listing with a hole, or without a segment that was there, is made again.
 */
#ifndef STORE_WALK_TABLE_H
#define STORE_WALK_TABLE_H

#include "store/walk_file.h"

struct walk_segment {
    uint64_t id;
    bool has_raw;
    bool has_compacted;
    bool is_bad;            /* no form of it can be read: no batch of it counts */
    bool is_told;           /* its problem was reported */
    enum segment_form form; /* the one that counts */
    struct ulid node;
    uint64_t file_bytes;
    bool has_footer;
    struct segment_footer footer;
    uint64_t first_seq; /* of the first batch; 0: none yet */
    uint64_t first_lsn;
    char problem[160]; /* of the file problem_name; empty: none */
    char problem_name[SEGMENT_NAME_BYTES];
};

struct walk_table {
    struct walk_segment *segments; /* by id */
    size_t count;
    size_t room;
};

/* Zeroed before the first time. scratch is closed afterwards. */
int walk_table_list(struct walk_table *table, struct file_io *io, struct walk_file *scratch,
                    struct err *err) MUST_USE;
void walk_table_end(struct walk_table *table);
/* The file's name; of SEGMENT_NAME_BYTES. */
void walk_segment_name(char *name, const struct walk_segment *segment);

#endif
