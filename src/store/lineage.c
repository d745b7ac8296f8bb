/*
 * lineage: see lineage.h. What it says decides whether an upstream takes a record for one that it has, so a file is believed
 * only byte for byte as it was written: it is read, written again in memory, and compared.
 */
#include "store/lineage.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "core/buf.h"
#include "core/crc32c.h"
#include "core/logline.h"
#include "core/mem.h"

#define LINEAGE_HEAD      "sluice-lineage 1\nnode "
#define LINEAGE_TEMPORARY LINEAGE_FILE ".tmp"

_Static_assert(LINEAGE_BYTES_MAX >= sizeof LINEAGE_HEAD + ULID_TEXT_BYTES + 1 + 32 +
                                        LINEAGE_ENTRIES_MAX * (20u + 1 + ULID_TEXT_BYTES + 1),
               "the longest text fits: a number has 20 digits");

void lineage_init(struct lineage *lineage, struct ulid node)
{
    lineage->node = node;
    lineage->count = 0;
}

static bool is_same(const struct ulid *a, const struct ulid *b)
{
    return memcmp(a->bytes, b->bytes, sizeof a->bytes) == 0;
}

struct ulid lineage_stream(const struct lineage *lineage, uint64_t lsn)
{
    for (uint32_t i = lineage->count; i > 0; i--) {
        if (lineage->entries[i - 1].from_lsn <= lsn) {
            return lineage->entries[i - 1].stream;
        }
    }
    return lineage->node;
}

struct ulid lineage_current(const struct lineage *lineage)
{
    return lineage_stream(lineage, UINT64_MAX);
}

/* Of the entries from index on: the smallest beginning above lsn. */
static uint64_t least_from(const struct lineage *lineage, uint32_t index, uint64_t lsn)
{
    uint64_t least = UINT64_MAX;
    for (uint32_t i = index; i < lineage->count; i++) {
        uint64_t from_lsn = lineage->entries[i].from_lsn;
        least = from_lsn > lsn ? u64_min(least, from_lsn) : least;
    }
    return least;
}

uint64_t lineage_border(const struct lineage *lineage, uint64_t lsn)
{
    return least_from(lineage, 0, lsn);
}

/* Index of the entry behind the stream's; 0: it is the node's own, or not known. */
static uint32_t index_behind(const struct lineage *lineage, const struct ulid *stream)
{
    uint32_t i = lineage->count;
    while (i > 0 && !is_same(&lineage->entries[i - 1].stream, stream)) {
        i--;
    }
    return i;
}

uint64_t lineage_cut(const struct lineage *lineage, const struct ulid *stream)
{
    return least_from(lineage, index_behind(lineage, stream), 0);
}

bool lineage_has(const struct lineage *lineage, const struct ulid *stream)
{
    return is_same(&lineage->node, stream) || index_behind(lineage, stream) > 0;
}

/* ---- the text ---- */

static void put_ulid_line(struct buf *out, const struct ulid *ulid)
{
    char text[ULID_TEXT_BYTES];
    ulid_format(text, ulid);
    buf_put(out, text, sizeof text);
    buf_put_char(out, '\n');
}

size_t lineage_format(const struct lineage *lineage, char *text)
{
    struct buf out;
    buf_init(&out, text, LINEAGE_BYTES_MAX);
    buf_put_text(&out, LINEAGE_HEAD);
    put_ulid_line(&out, &lineage->node);
    for (uint32_t i = 0; i < lineage->count; i++) {
        buf_printf(&out, "%" PRIu64 " ", lineage->entries[i].from_lsn);
        put_ulid_line(&out, &lineage->entries[i].stream);
    }
    buf_printf(&out, "end %" PRIu32 " %08" PRIx32 "\n", lineage->count, crc32c(0, text, out.bytes));
    ASSERT(!out.is_truncated);
    return out.bytes;
}

/* A line of text from *at on, which moves behind it. False: there is none. */
static bool next_line(struct slice *line, struct slice text, size_t *at)
{
    const uint8_t *from = text.data + *at;
    const uint8_t *feed = *at < text.bytes ? memchr(from, '\n', text.bytes - *at) : NULL;
    if (feed == NULL) {
        return false;
    }
    *line = (struct slice){from, (size_t)(feed - from)};
    *at += line->bytes + 1;
    return true;
}

static bool parse_number(uint64_t *number, struct slice digits)
{
    *number = 0;
    for (size_t i = 0; i < digits.bytes; i++) {
        uint8_t digit = (uint8_t)(digits.data[i] - '0');
        if (digit > 9 || __builtin_mul_overflow(*number, 10u, number) ||
            __builtin_add_overflow(*number, (uint64_t)digit, number)) {
            return false;
        }
    }
    return digits.bytes > 0;
}

/* "101 01JD.." */
static bool parse_entry(struct lineage_entry *entry, struct slice line)
{
    const uint8_t *space = memchr(line.data, ' ', line.bytes);
    if (space == NULL) {
        return false;
    }
    struct slice number = {line.data, (size_t)(space - line.data)};
    struct slice stream = {space + 1, line.bytes - number.bytes - 1};
    return stream.bytes == ULID_TEXT_BYTES && parse_number(&entry->from_lsn, number) &&
           entry->from_lsn > 0 && ulid_parse(&entry->stream, stream) == 0;
}

/* The lines up to the one that begins with "end"; false: one of them is none of ours. */
static bool parse_lines(struct lineage *lineage, struct slice text)
{
    struct slice head = SLICE_LITERAL(LINEAGE_HEAD);
    struct slice line;
    size_t at = sizeof LINEAGE_HEAD - 1 - sizeof "node";
    lineage->count = 0;
    if (text.bytes < head.bytes || memcmp(text.data, head.data, head.bytes) != 0 ||
        !next_line(&line, text, &at) || line.bytes != sizeof "node" + ULID_TEXT_BYTES ||
        ulid_parse(&lineage->node, (struct slice){line.data + sizeof "node", ULID_TEXT_BYTES}) <
            0) {
        return false;
    }
    while (next_line(&line, text, &at)) { /* on by a line */
        if (line.bytes > 3 && memcmp(line.data, "end", 3) == 0) {
            return true;
        }
        if (lineage->count == LINEAGE_ENTRIES_MAX ||
            !parse_entry(&lineage->entries[lineage->count], line)) {
            return false;
        }
        lineage->count++;
    }
    return false;
}

/* Is the text what lineage is written as? The checksum is compared with the rest. */
static bool is_text_of(const struct lineage *lineage, struct slice text)
{
    char *again = mem_alloc(LINEAGE_BYTES_MAX);
    size_t bytes = lineage_format(lineage, again);
    bool is_it = bytes == text.bytes && memcmp(again, text.data, bytes) == 0;
    mem_free(again);
    return is_it;
}

int lineage_parse(struct lineage *lineage, struct slice text, struct err *err)
{
    struct lineage *read = mem_alloc(sizeof *read);
    bool is_good = parse_lines(read, text) && is_text_of(read, text);
    bool is_ours = is_good && is_same(&read->node, &lineage->node);
    if (is_ours) {
        *lineage = *read;
    }
    mem_free(read);
    if (!is_good) {
        return err_set(err, ERR_CORRUPT,
                       LINEAGE_FILE " is damaged: it says under which names records go upstream, "
                                    "and a wrong one would make an upstream drop them; put it "
                                    "back from a backup");
    }
    return is_ours ? 0
                   : err_set(err, ERR_CORRUPT,
                             LINEAGE_FILE " belongs to another node: put this node's back from a "
                                          "backup");
}

/* ---- the file ---- */

int lineage_read(struct lineage *lineage, struct file_io *io, struct ulid node, struct err *err)
{
    struct file file;
    lineage_init(lineage, node);
    int r = io->ops->open(io, LINEAGE_FILE, FILE_OPEN_READ_ONLY, &file);
    if (r == -ENOENT) {
        return 0;
    }
    if (r < 0) {
        return err_set(err, r, "open " LINEAGE_FILE ": %s", err_name(r));
    }
    /* A byte more than the longest: what is longer shows. */
    uint8_t *text = mem_alloc(LINEAGE_BYTES_MAX + 1);
    int64_t n = io->ops->read(io, file, text, LINEAGE_BYTES_MAX + 1, 0);
    io->ops->close(io, file);
    r = n < 0 ? err_set(err, (int)n, "read " LINEAGE_FILE ": %s", err_name((int)n))
              : lineage_parse(lineage, (struct slice){text, (size_t)n}, err);
    mem_free(text);
    return r;
}

static int write_file(const struct lineage *lineage, struct file_io *io)
{
    char *text = mem_alloc(LINEAGE_BYTES_MAX);
    size_t bytes = lineage_format(lineage, text);
    struct file file;
    int r = io->ops->open(io, LINEAGE_TEMPORARY, FILE_OPEN_CREATE, &file);
    if (r == 0) {
        r = io->ops->truncate(io, file, 0);
        r = r < 0 ? r : io->ops->write(io, file, text, bytes, 0, false);
        r = r < 0 ? r : io->ops->sync(io, file);
        io->ops->close(io, file);
    }
    mem_free(text);
    r = r < 0 ? r : io->ops->rename(io, LINEAGE_TEMPORARY, LINEAGE_FILE);
    return r < 0 ? r : io->ops->sync_dir(io, "");
}

/* Entries whose LSNs others have taken: nothing of the log is theirs any more. */
static void forget_superseded(struct lineage *lineage)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < lineage->count; i++) {
        struct lineage_entry entry = lineage->entries[i];
        if (least_from(lineage, i + 1, 0) > entry.from_lsn) {
            lineage->entries[kept++] = entry;
        }
    }
    lineage->count = kept;
}

int lineage_add(struct lineage *lineage, struct file_io *io, struct lineage_entry entry,
                struct err *err)
{
    ASSERT(entry.from_lsn > 0);
    struct lineage *next = mem_alloc(sizeof *next);
    *next = *lineage;
    if (next->count == LINEAGE_ENTRIES_MAX) {
        forget_superseded(next);
    }
    int r = next->count < LINEAGE_ENTRIES_MAX ? 0 : ERR_LIMIT;
    if (r == 0) {
        next->entries[next->count++] = entry;
        r = write_file(next, io);
    }
    if (r == 0) {
        *lineage = *next;
    }
    mem_free(next);
    return r == 0 ? 0 : err_set(err, r, "write " LINEAGE_FILE ": %s", err_name(r));
}

/* ---- reasons for an entry ---- */

void lineage_witness_note(struct lineage_witness *witness, uint64_t lsn, const char *format, ...)
{
    va_list arguments;
    if (lsn <= witness->lsn) {
        return;
    }
    witness->lsn = lsn;
    va_start(arguments, format);
    (void)vsnprintf(witness->who, sizeof witness->who, format, arguments);
    va_end(arguments);
}

static int look_for_marker(struct file_io *io, bool *is_there, struct err *err)
{
    struct file file;
    int r = io->ops->open(io, LINEAGE_MARKER, FILE_OPEN_READ_ONLY, &file);
    *is_there = r == 0;
    if (r == 0) {
        io->ops->close(io, file);
    }
    return r == 0 || r == -ENOENT ? 0 : err_set(err, r, "open " LINEAGE_MARKER ": %s", err_name(r));
}

static void remove_marker(struct file_io *io)
{
    int r = io->ops->unlink(io, LINEAGE_MARKER);
    r = r < 0 ? r : io->ops->sync_dir(io, "");
    if (r < 0) {
        LOG(LOGLINE_WARNING, "lineage",
            "DIR/" LINEAGE_MARKER
            " cannot be removed: %s; remove it, or each start makes another stream",
            err_name(r));
    }
}

static void say_restored(uint64_t last_lsn, const char *stream)
{
    LOG(LOGLINE_WARNING, "lineage",
        "this directory was restored, its log ends with LSN %" PRIu64
        "; an upstream may have had other records under the LSNs behind it: from LSN %" PRIu64
        " on records go upstream as stream %s",
        last_lsn, last_lsn + 1, stream);
}

static void say_lost(uint64_t last_lsn, const struct lineage_witness *witness, const char *stream)
{
    LOG(LOGLINE_WARNING, "lineage",
        "the log ends with LSN %" PRIu64 ", but %s has seen LSN %" PRIu64 ": %" PRIu64
        " records were lost, or the directory was put back from an older copy; from LSN %" PRIu64
        " on records go upstream as stream %s",
        last_lsn, witness->who, witness->lsn, witness->lsn - last_lsn, last_lsn + 1, stream);
}

int lineage_settle(struct lineage *lineage, struct file_io *io, uint64_t last_lsn,
                   const struct lineage_witness *witness, struct err *err)
{
    bool is_restored = false;
    int r = look_for_marker(io, &is_restored, err);
    bool is_short = witness->lsn > last_lsn;
    if (r < 0 || (!is_restored && !is_short)) {
        return r;
    }
    struct ulid_source source;
    char stream[ULID_TEXT_BYTES + 1] = "";
    ulid_source_init(&source);
    const struct lineage_entry entry = {last_lsn + 1, ulid_next(&source, io->ops->real_ns(io))};
    ulid_format(stream, &entry.stream);
    r = lineage_add(lineage, io, entry, err);
    if (r < 0) {
        return err_wrap(err, r, "begin another stream at LSN %" PRIu64, entry.from_lsn);
    }
    if (is_restored) {
        say_restored(last_lsn, stream);
        remove_marker(io);
    }
    if (is_short) {
        say_lost(last_lsn, witness, stream);
    }
    return 0;
}
