/*
 * lineage: under which name this node's records go upstream. An upstream drops what it has seen before by (node, LSN), so
 * no pair may ever stand for two records. A log that was put back from a backup, or has lost its end, gives LSNs a second
 * time: from there on the records belong to another *stream*, with a ULID of its own. Who sends names the stream of an LSN
 * where it would name the node. Main thread at start; read by all afterwards, it never changes while the process runs.
 *
 *   LSN     1 ........ 100 | 101 ........ 250 | 251 ...
 *   stream  the node's own | 01JD..           | 01JE..     <- entries "101 01JD..", "251 01JE.."
 *
 * Entries stand in the order in which they were made. The last one that begins at or before an LSN names its stream, so
 * one that begins earlier than those before it takes their LSNs: the log has lost these once more. They stay in the list:
 * a sink may still stand in such a stream (lineage_cut).
 *
 * An entry is made at a start, from the LSN behind the log's last, before any record can get it, when
 *   - `sluice restore` made the directory (the file DIR/restored says so; it is removed when the entry is durable), or
 *   - a witness has seen LSNs that the log does not have: a sink's place or frozen batch, a replay job, the agent-run database,
 *     the catalog, DIR/origins.
 * A crash between entry and removal makes one entry more, at the same LSN: no record had the first.
 *
 * DIR/lineage, text; absent: everything is the node's own stream. Written whole to lineage.tmp, synced, renamed, directory synced:
 *   sluice-lineage 1
 *   node <ULID>
 *   <from LSN> <ULID>               one line each
 *   end <number of entries> <CRC32C of all bytes before this line, 8 hex digits>
 * What is not exactly this is damaged. A start then fails: a guess could name a pair twice.
 */
#ifndef STORE_LINEAGE_H
#define STORE_LINEAGE_H

#include "core/base.h"
#include "core/err.h"
#include "core/ulid.h"
#include "store/file_io.h"

#define LINEAGE_FILE        "lineage"
#define LINEAGE_MARKER      "restored"
#define LINEAGE_ENTRIES_MAX 512u
#define LINEAGE_BYTES_MAX   (96u + LINEAGE_ENTRIES_MAX * 48u)

struct lineage_entry {
    uint64_t from_lsn; /* at least 1 */
    struct ulid stream;
};

struct lineage {
    struct ulid node; /* the stream before the first entry */
    uint32_t count;
    struct lineage_entry entries[LINEAGE_ENTRIES_MAX];
};

/* ---- pure ---- */

/* No entries. */
void lineage_init(struct lineage *lineage, struct ulid node);
/* The stream of a record with this LSN. */
struct ulid lineage_stream(const struct lineage *lineage, uint64_t lsn);
/* The stream of what comes now. */
struct ulid lineage_current(const struct lineage *lineage);
/* The smallest LSN above lsn where another stream may begin: what is one for an upstream ends before it. UINT64_MAX: none. */
uint64_t lineage_border(const struct lineage *lineage, uint64_t lsn);
/* Who stood in stream: the first LSN that has become another record's since. UINT64_MAX: none. Of a stream that is not known (any
 * more): the first of all borders. */
uint64_t lineage_cut(const struct lineage *lineage, const struct ulid *stream);
bool lineage_has(const struct lineage *lineage, const struct ulid *stream);
/* text becomes entries of lineage, whose node must be that of the text. ERR_CORRUPT with a text: it is not what was written. */
int lineage_parse(struct lineage *lineage, struct slice text, struct err *err) MUST_USE;
/* text: LINEAGE_BYTES_MAX. Returns the bytes. */
size_t lineage_format(const struct lineage *lineage, char *text);

/* ---- start ---- */

/* No file: no entries. */
int lineage_read(struct lineage *lineage, struct file_io *io, struct ulid node,
                 struct err *err) MUST_USE;
/* Durable when it returns 0; else lineage is as it was. ERR_LIMIT: LINEAGE_ENTRIES_MAX streams still have records. */
int lineage_add(struct lineage *lineage, struct file_io *io, struct lineage_entry entry,
                struct err *err) MUST_USE;

/* Who has seen the largest LSN. */
struct lineage_witness {
    uint64_t lsn; /* 0: nobody has seen any */
    char who[96];
};
void lineage_witness_note(struct lineage_witness *witness, uint64_t lsn, const char *format, ...)
    PRINTF_LIKE(3, 4);
/* Makes the entry when there is a reason (see above), and says so in the log. Whatever a witness says may be forgotten
 * after this, not before. */
int lineage_settle(struct lineage *lineage, struct file_io *io, uint64_t last_lsn,
                   const struct lineage_witness *witness, struct err *err) MUST_USE;

#endif
