/*
 * bench_scan: what reading the log costs, on one core and from the page cache: a log of real lines
 * (the *.log files below DATA/logs) in raw sealed segments, then the same compacted, each scanned in
 * several ways. Figures are GB/s of raw record bytes (what the scan passed, looked into or skipped) a
 * second of the thread's processor time, the best round, so that neighbours on a shared machine
 * matter little; ms is that round by the clock on the wall, step the processor time of its longest
 * step, in ms.
 *
 *   bench_scan DATA DIR [MIB [level [KIB]]]   DIR/log is made and removed again; 512 MiB, zstd level
 *                                             3, batches of 64 KiB
 */
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/crc32c.h"
#include "core/mem.h"
#include "store/frame.h"
#include "store/scan.h"
#include "store/segment.h"

#define SEGMENT_BYTES MIB(64)
#define BATCH_BYTES   KIB(64) /* unless told */
#define BATCH_MAX     MIB(16)
#define TEXT_BYTES    MIB(64)
#define SEGMENTS_MAX  1024u
#define ROUNDS        5u
#define RARE_EVERY    200000u /* records: every so often one of service "rare" */
#define TIME_NS       1700000000000000000ll

static const struct ulid NODE = {{1}};

struct lines {
    char *text; /* JSON string contents, one after the other, each ended by a zero */
    size_t bytes;
    size_t count;
};

struct maker {
    struct lines lines;
    size_t batch_bytes;
    size_t line_at;
    uint64_t lsn;
    uint64_t seq;
    uint32_t crc;
    uint8_t *file; /* a whole segment */
    uint8_t *compacted;
    struct index_builder *builder;
    struct frame_writer *frames;
    uint64_t raw_bytes, stored_bytes;
};

static void die(const char *what, const char *why)
{
    fprintf(stderr, "bench_scan: %s: %s\n", what, why);
    exit(1);
}

/* ---- real lines ---- */

static size_t escape(char *to, const char *from, size_t bytes)
{
    size_t at = 0;
    for (size_t i = 0; i < bytes; i++) {
        if (from[i] == '"' || from[i] == '\\') {
            to[at++] = '\\';
        }
        if ((unsigned char)from[i] >= 0x20) {
            to[at++] = from[i];
        }
    }
    to[at++] = '\0';
    return at;
}

static void lines_add(struct lines *lines, const char *name)
{
    FILE *file = fopen(name, "r");
    char line[4096];
    if (file == NULL) {
        die(name, strerror(errno));
    }
    while (fgets(line, sizeof line, file) != NULL && lines->bytes + 2 * sizeof line < TEXT_BYTES) {
        lines->bytes += escape(lines->text + lines->bytes, line, strcspn(line, "\r\n"));
        lines->count++;
    }
    fclose(file);
}

static void lines_read(struct lines *lines, const char *data)
{
    char pattern[512];
    glob_t found;
    lines->text = mem_alloc(TEXT_BYTES);
    snprintf(pattern, sizeof pattern, "%s/logs/*.log", data);
    if (glob(pattern, 0, NULL, &found) != 0) {
        die(pattern, "no such files");
    }
    for (size_t i = 0; i < found.gl_pathc; i++) {
        lines_add(lines, found.gl_pathv[i]);
    }
    globfree(&found);
}

/* ---- segments ---- */

static const char *service_of(uint64_t lsn)
{
    return lsn % RARE_EVERY == RARE_EVERY / 2 ? "rare" : "common";
}

/* The record of maker->lsn, encoded at to; 0 where it has no room. */
static size_t record_make(struct maker *maker, uint8_t *to, size_t room)
{
    char text[9000];
    const char *line = maker->lines.text + maker->line_at;
    int bytes = snprintf(text, sizeof text,
                         "{\"timestamp\":\"2025-08-25T10:00:00.123456Z\",\"service\":\"%s\","
                         "\"level\":\"INFO\",\"message\":\"%s\",\"correlation_id\":\"req-%llu\"}",
                         service_of(maker->lsn), line, (unsigned long long)maker->lsn);
    struct record record = {
        .kind = RECORD_LOG,
        .severity = maker->lsn % 50 == 0 ? SEVERITY_ERROR : SEVERITY_INFO,
        .event_time_ns = TIME_NS + (int64_t)maker->lsn * 1000,
        .payload = {(const uint8_t *)text, (size_t)bytes},
    };
    if (record_padded_bytes(0, record.payload.bytes) > room) {
        return 0;
    }
    maker->line_at += strlen(line) + 1;
    maker->line_at = maker->line_at < maker->lines.bytes ? maker->line_at : 0;
    maker->lsn++;
    return record_encode(to, &record);
}

static void key_add(struct maker *maker, enum index_field field, const char *value)
{
    struct slice slice = {(const uint8_t *)value, strlen(value)};
    index_builder_add_key(maker->builder, index_key(field, slice));
}

static void batch_index(struct maker *maker, const struct batch_header *header, uint64_t at)
{
    struct slice rest = {maker->file + at + BATCH_HEADER_BYTES, header->payload_bytes};
    index_builder_add_batch(maker->builder, header, at);
    for (uint32_t i = 0; i < header->record_count; i++) {
        char id[32];
        struct record record;
        struct err err;
        int64_t bytes = record_decode(&record, rest, &err);
        if (bytes < 0) {
            die("record", err.text);
        }
        rest = (struct slice){rest.data + bytes, rest.bytes - (size_t)bytes};
        snprintf(id, sizeof id, "req-%llu", (unsigned long long)(header->first_lsn + i));
        index_builder_add_record(maker->builder, &record);
        key_add(maker, INDEX_SERVICE, service_of(header->first_lsn + i));
        key_add(maker, INDEX_CORRELATION_ID, id);
    }
}

/* Returns the bytes it takes in the file. */
static uint64_t batch_make(struct maker *maker, uint64_t at, const struct segment_header *segment)
{
    uint8_t *to = maker->file + at;
    struct batch_header header = {.segment_id = segment->segment_id,
                                  .salt = segment->salt,
                                  .batch_seq = maker->seq++,
                                  .first_lsn = maker->lsn,
                                  .previous_crc = maker->crc,
                                  .kinds = 1u << RECORD_LOG,
                                  .time_min_ns = TIME_NS + (int64_t)maker->lsn * 1000,
                                  .durable_lsn = maker->lsn - 1,
                                  .built_at_ns = TIME_NS};
    size_t bytes = 0;
    size_t more = 1;
    while (more != 0) { /* until the batch is full */
        more = record_make(maker, to + BATCH_HEADER_BYTES + bytes,
                           maker->batch_bytes - BATCH_HEADER_BYTES - bytes);
        bytes += more;
    }
    header.record_count = (uint32_t)(maker->lsn - header.first_lsn);
    header.time_max_ns = TIME_NS + (int64_t)(maker->lsn - 1) * 1000;
    header.payload_bytes = (uint32_t)bytes;
    header.payload_crc = crc32c(0, to + BATCH_HEADER_BYTES, bytes);
    batch_header_encode(to, &header);
    batch_index(maker, &header, at);
    maker->crc = header.header_crc;
    maker->raw_bytes += BATCH_HEADER_BYTES + bytes;
    return batch_file_bytes(bytes);
}

static void file_put(const char *dir, const char *name, const uint8_t *data, uint64_t bytes)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    for (uint64_t at = 0; fd >= 0 && at < bytes;) {
        ssize_t written = write(fd, data + at, bytes - at);
        if (written <= 0) {
            die(path, strerror(errno));
        }
        at += (uint64_t)written;
    }
    if (fd < 0) {
        die(path, strerror(errno));
    }
    close(fd);
}

/* Index and footer behind offset; returns the file's size. */
static uint64_t file_end(uint8_t *file, uint64_t offset, struct slice blob,
                         struct segment_footer *footer)
{
    uint64_t end = align_up(offset + blob.bytes, STORE_BLOCK_BYTES);
    memset(file + offset, 0, end - offset);
    memcpy(file + offset, blob.data, blob.bytes);
    footer->index_offset = offset;
    footer->index_bytes = blob.bytes;
    footer->index_crc = crc32c(0, blob.data, blob.bytes);
    segment_footer_encode(file + end, footer);
    return end + STORE_BLOCK_BYTES;
}

/* The frames of a compacted file, with the entries that lead to them; returns where they end. */
static uint64_t frames_put(struct maker *maker, struct slice blob, uint8_t *entries,
                           uint32_t entry_count)
{
    static uint8_t raw[BATCH_MAX + 2 * INDEX_BLOCK_BYTES];
    struct index index;
    struct err err;
    uint64_t at = STORE_BLOCK_BYTES;
    if (index_open(&index, blob, entry_count, &err) < 0) {
        die("index", err.text);
    }
    for (uint32_t i = 0; i < entry_count; i++) {
        struct index_entry entry;
        size_t bytes = 0;
        index_entry_get(&index, i, &entry);
        for (uint64_t from = entry.offset; from < entry.offset + entry.stored_bytes;) {
            struct batch_header header;
            if (batch_header_decode(&header, maker->file + from, &err) < 0) {
                die("batch", err.text);
            }
            size_t batch = BATCH_HEADER_BYTES + header.payload_bytes;
            memcpy(raw + bytes, maker->file + from, batch);
            bytes += batch;
            from += batch_file_bytes(header.payload_bytes);
        }
        int64_t stored =
            frame_compress(maker->frames, maker->compacted + at, (struct slice){raw, bytes}, &err);
        if (stored < 0) {
            die("compress", err.text);
        }
        entry.offset = at;
        entry.stored_bytes = (uint64_t)stored;
        entry.stored_crc = crc32c(0, maker->compacted + at, (size_t)stored);
        index_entry_put(entries + i * INDEX_ENTRY_BYTES, &entry);
        at += (uint64_t)stored;
    }
    return align_up(at, STORE_BLOCK_BYTES);
}

/* One segment, in both forms; returns its raw bytes. */
static void segment_make(struct maker *maker, const char *dir, uint64_t id)
{
    char name[SEGMENT_NAME_BYTES];
    struct segment_header header = {
        .segment_id = id, .salt = 77 + id, .node = NODE, .file_bytes = SEGMENT_BYTES};
    struct segment_footer footer = {.form = SEGMENT_FORM_RAW,
                                    .segment_id = id,
                                    .salt = header.salt,
                                    .node = NODE,
                                    .first_lsn = maker->lsn,
                                    .first_seq = maker->seq,
                                    .kinds = 1u << RECORD_LOG,
                                    .severities = 1u << SEVERITY_INFO | 1u << SEVERITY_ERROR};
    uint64_t raw_before = maker->raw_bytes;
    uint64_t at = STORE_BLOCK_BYTES;
    memset(maker->file, 0, SEGMENT_BYTES);
    segment_header_encode(maker->file, &header);
    index_builder_reset(maker->builder);
    while (at + maker->batch_bytes <= SEGMENT_BYTES) {
        at += batch_make(maker, at, &header);
        if (index_builder_is_full(maker->builder)) {
            index_builder_end_block(maker->builder, at);
        }
    }
    index_builder_end_block(maker->builder, at);
    struct slice blob = index_builder_blob(maker->builder, &footer.entry_count);
    footer.last_lsn = maker->lsn - 1;
    footer.last_seq = maker->seq - 1;
    footer.last_crc = maker->crc;
    footer.record_count = maker->lsn - footer.first_lsn;
    footer.raw_bytes = maker->raw_bytes - raw_before;
    footer.durable_lsn = footer.last_lsn;
    footer.time_min_ns = TIME_NS + (int64_t)footer.first_lsn * 1000;
    footer.time_max_ns = TIME_NS + (int64_t)footer.last_lsn * 1000;
    footer.built_min_ns = TIME_NS;
    footer.built_max_ns = TIME_NS;

    segment_name(name, id);
    file_put(dir, name, maker->file, file_end(maker->file, SEGMENT_BYTES, blob, &footer));
    uint8_t *entries = mem_alloc(blob.bytes);
    memcpy(entries, blob.data, blob.bytes);
    compacted_header_encode(maker->compacted, &header);
    uint64_t end = frames_put(maker, blob, entries, footer.entry_count);
    footer.form = SEGMENT_FORM_COMPACTED;
    compacted_name(name, id);
    struct slice placed = {entries, blob.bytes};
    uint64_t bytes = file_end(maker->compacted, end, placed, &footer);
    file_put(dir, name, maker->compacted, bytes);
    maker->stored_bytes += bytes;
    mem_free(entries);
}

/* ---- scanning ---- */

struct want {
    struct slice text; /* in the payload; empty: any */
    uint64_t matches;
    uint64_t payload_bytes;
};

static bool want_match(void *context, const struct scan_record *record)
{
    const struct want *want = context;
    return want->text.bytes == 0 ||
           memmem(record->record.payload.data, record->record.payload.bytes, want->text.data,
                  want->text.bytes) != NULL;
}

static bool want_take(void *context, const struct scan_record *record)
{
    struct want *want = context;
    want->matches++;
    want->payload_bytes += record->record.payload.bytes;
    return true;
}

struct way {
    const char *name;
    const char *text;
    uint32_t severities;
    bool has_key;   /* service rare */
    bool is_newest; /* the last 1 % of the time */
    bool is_descending;
};

static const struct way ways[] = {
    {.name = "substring, nowhere", .text = "no line has this"},
    {.name = "substring, nowhere, descending", .text = "no line has this", .is_descending = true},
    {.name = "substring, rare", .text = "NoRouteToHost"},
    {.name = "substring, every 10th line", .text = "Failed password"},
    {.name = "everything", .text = ""},
    {.name = "severity error (2 %)", .text = "", .severities = 1u << SEVERITY_ERROR},
    {.name = "the newest 1 %", .text = "", .is_newest = true},
    {.name = "the newest 1 %, descending", .text = "", .is_newest = true, .is_descending = true},
    {.name = "service rare, by brute force", .text = "\"service\":\"rare\""},
    {.name = "service rare, by the index", .text = "\"service\":\"rare\"", .has_key = true},
};

struct took {
    uint64_t cpu_ns;
    uint64_t wall_ns;
    uint64_t step_ns; /* of processor time, the longest */
    uint64_t looked;  /* bytes */
};

static uint64_t cpu_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (uint64_t)now.tv_sec * NS_S + (uint64_t)now.tv_nsec;
}

static struct took way_run(const struct way *way, struct log_views *views, uint64_t last_lsn,
                           struct want *want)
{
    int64_t newest_ns = TIME_NS + (int64_t)(last_lsn - last_lsn / 100) * 1000;
    struct scan_source source = {.views = views};
    struct scan_options options = {.filter = {.severities = way->severities,
                                              .time_min_ns = way->is_newest ? newest_ns : INT64_MIN,
                                              .time_max_ns = INT64_MAX,
                                              .lsn_max = UINT64_MAX,
                                              .literal = want->text},
                                   .is_descending = way->is_descending,
                                   .match = want_match,
                                   .take = want_take,
                                   .context = want};
    if (way->has_key) {
        options.filter.keys[0] = index_key(INDEX_SERVICE, SLICE_LITERAL("rare"));
        options.filter.key_count = 1;
    }
    struct err err;
    uint64_t began = clock_mono_ns();
    uint64_t cpu_began = cpu_ns();
    struct scan *scan = scan_new(&source, &options);
    int result = SCAN_MORE;
    uint64_t step_ns = 0;
    while (result == SCAN_MORE) { /* as many steps as the log has blocks */
        uint64_t step_began = cpu_ns();
        result = scan_step(scan, &err);
        step_ns = u64_max(step_ns, cpu_ns() - step_began);
    }
    if (result < 0) {
        die(way->name, err.text);
    }
    struct took took = {.looked = scan_bytes(scan), .step_ns = step_ns};
    scan_free(scan);
    took.wall_ns = clock_mono_ns() - began;
    took.cpu_ns = cpu_ns() - cpu_began;
    return took;
}

static void ways_run(const char *form, struct log_views *views, const struct maker *maker)
{
    printf("%-10s %-32s %9s %9s %9s %9s %10s\n", form, "", "GB/s", "ms", "step", "matches",
           "looked MiB");
    for (size_t i = 0; i < ARRAY_COUNT(ways); i++) {
        struct took best = {.cpu_ns = UINT64_MAX};
        struct want want;
        for (unsigned n = 0; n < ROUNDS; n++) {
            want = (struct want){{(const uint8_t *)ways[i].text, strlen(ways[i].text)}, 0, 0};
            struct took took = way_run(&ways[i], views, maker->lsn - 1, &want);
            best = took.cpu_ns < best.cpu_ns ? took : best;
        }
        printf("%-10s %-32s %9.2f %9.1f %9.2f %9llu %10.1f\n", "", ways[i].name,
               (double)maker->raw_bytes / (double)best.cpu_ns, (double)best.wall_ns / 1e6,
               (double)best.step_ns / 1e6, (unsigned long long)want.matches,
               (double)best.looked / 1048576.0);
    }
}

static void form_run(const char *form, struct file_io *io, enum view_state state, uint64_t segments,
                     const struct maker *maker)
{
    struct view_segment *list[SEGMENTS_MAX];
    struct log_views *views = NULL;
    struct err err;
    if (log_views_open(&views, io, &err) < 0) {
        die("views", err.text);
    }
    for (uint64_t id = 1; id <= segments; id++) {
        if (view_segment_open(&list[id - 1], io, id, state, &err) < 0) {
            die("segment", err.text);
        }
    }
    log_views_publish(views, list, segments);
    ways_run(form, views, maker);
    log_views_close(views);
    for (uint64_t i = 0; i < segments; i++) {
        view_segment_give(list[i]);
    }
}

static void files_remove(const char *dir, uint64_t segments)
{
    char path[600];
    char name[SEGMENT_NAME_BYTES];
    for (uint64_t id = 1; id <= segments; id++) {
        segment_name(name, id);
        snprintf(path, sizeof path, "%s/%s", dir, name);
        unlink(path);
        compacted_name(name, id);
        snprintf(path, sizeof path, "%s/%s", dir, name);
        unlink(path);
    }
    snprintf(path, sizeof path, "%s/log", dir);
    rmdir(path);
}

int main(int argc, char **argv)
{
    if (argc < 3) {
        die("usage", "bench_scan DATA DIR [MIB [level [KIB]]]");
    }
    uint64_t mib = argc > 3 ? strtoull(argv[3], NULL, 10) : 512;
    int level = argc > 4 ? (int)strtol(argv[4], NULL, 10) : 3;
    uint64_t batch_bytes = argc > 5 ? KIB(strtoull(argv[5], NULL, 10)) : BATCH_BYTES;
    uint64_t segments = (MIB(mib) + SEGMENT_BYTES - 1) / SEGMENT_BYTES;
    if (segments == 0 || segments > SEGMENTS_MAX || level < FRAME_LEVEL_MIN ||
        level > FRAME_LEVEL_MAX || batch_bytes < KIB(4) || batch_bytes > BATCH_MAX ||
        batch_bytes % STORE_BLOCK_BYTES != 0) {
        die("usage", "MIB up to 65536, level 1 to 19, KIB 4 to 16384");
    }
    char path[600];
    snprintf(path, sizeof path, "%s/log", argv[2]);
    if (mkdir(path, 0755) < 0) {
        die(path, strerror(errno)); /* also when it is there: a log of somebody's */
    }
    struct maker maker = {.lsn = 1, .seq = 1, .batch_bytes = batch_bytes};
    lines_read(&maker.lines, argv[1]);
    maker.file = mem_map(2 * SEGMENT_BYTES);
    maker.compacted = mem_map(2 * SEGMENT_BYTES);
    maker.builder = index_builder_new();
    maker.frames = frame_writer_new(level);
    for (uint64_t id = 1; id <= segments; id++) {
        segment_make(&maker, argv[2], id);
    }
    printf(
        "%zu different lines, %llu records of %.0f bytes, %.1f MiB raw, %.1f MiB compacted (%.1f "
        "to 1)\n",
        maker.lines.count, (unsigned long long)(maker.lsn - 1),
        (double)maker.raw_bytes / (double)(maker.lsn - 1), (double)maker.raw_bytes / 1048576.0,
        (double)maker.stored_bytes / 1048576.0,
        (double)maker.raw_bytes / (double)maker.stored_bytes);
    struct file_io *io = NULL;
    struct err err;
    if (file_io_real_open_existing(&io, argv[2], &err) < 0) {
        die(argv[2], err.text);
    }
    form_run("sealed", io, VIEW_SEALED, segments, &maker);
    form_run("active", io, VIEW_ACTIVE, segments, &maker);
    form_run("compacted", io, VIEW_COMPACTED, segments, &maker);
    io->ops->destroy(io);
    files_remove(argv[2], segments);
    return 0;
}
