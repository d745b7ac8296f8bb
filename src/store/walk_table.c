/*
 * walk_table: see walk_table.h. Main path: walk_table_list lists names until they agree, then looks
 * at each file that is not known yet, then asks which node the log belongs to.
 */
#include "store/walk_table.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/mem.h"
#include "store/node.h"

#define LISTINGS_MAX 4 /* a directory that still changes then is taken as it is */

/* ---- names ---- */

void walk_segment_name(char *name, const struct walk_segment *segment)
{
    if (segment->form == SEGMENT_FORM_COMPACTED) {
        compacted_name(name, segment->id);
    } else {
        segment_name(name, segment->id);
    }
}

static struct walk_segment *table_append(struct walk_table *table)
{
    if (table->count == table->room) {
        size_t room = table->room == 0 ? 16 : 2 * table->room;
        struct walk_segment *grown = mem_alloc_array(room, sizeof *grown);
        if (table->count != 0) {
            memcpy(grown, table->segments, table->count * sizeof *grown);
        }
        mem_free(table->segments);
        table->segments = grown;
        table->room = room;
    }
    return &table->segments[table->count++];
}

static void table_on_name(void *context, const char *name)
{
    uint64_t id = 0;
    bool is_raw = segment_parse_name(&id, name);
    bool is_compacted = !is_raw && compacted_parse_name(&id, name);
    if (is_raw || is_compacted) {
        *table_append(context) =
            (struct walk_segment){.id = id, .has_raw = is_raw, .has_compacted = is_compacted};
    }
}

static int segment_compare(const void *a, const void *b)
{
    uint64_t left = ((const struct walk_segment *)a)->id;
    uint64_t right = ((const struct walk_segment *)b)->id;
    return left < right ? -1 : left > right;
}

static struct walk_segment *table_find(const struct walk_table *table, uint64_t id)
{
    struct walk_segment key = {.id = id};
    return table->count == 0
               ? NULL
               : bsearch(&key, table->segments, table->count, sizeof key, segment_compare);
}

/* Sorts, and makes one of the two names of one id. */
static void table_merge(struct walk_table *table)
{
    size_t kept = 0;
    if (table->count != 0) {
        qsort(table->segments, table->count, sizeof *table->segments, segment_compare);
    }
    for (size_t i = 0; i < table->count; i++) {
        struct walk_segment *last = kept == 0 ? NULL : &table->segments[kept - 1];
        if (last != NULL && last->id == table->segments[i].id) {
            last->has_raw = last->has_raw || table->segments[i].has_raw;
            last->has_compacted = last->has_compacted || table->segments[i].has_compacted;
        } else {
            table->segments[kept++] = table->segments[i];
        }
    }
    table->count = kept;
}

/* Something is not there that should be: it is gone, or the listing missed it. */
static bool table_has_hole(const struct walk_table *table, const struct walk_table *old)
{
    for (size_t i = 1; i < table->count; i++) {
        if (table->segments[i].id != table->segments[i - 1].id + 1) {
            return true;
        }
    }
    for (size_t i = 0; i < old->count; i++) {
        if (table_find(table, old->segments[i].id) == NULL) {
            return true;
        }
    }
    return old->count == 0;
}

static int table_names(struct walk_table *table, const struct walk_table *old, struct file_io *io)
{
    size_t count_before = SIZE_MAX;
    for (int i = 0; i < LISTINGS_MAX; i++) {
        table->count = 0;
        int result = io->ops->list(io, SEGMENT_DIR, table_on_name, table);
        if (result < 0) {
            return result;
        }
        table_merge(table);
        if (!table_has_hole(table, old) || table->count == count_before) {
            break;
        }
        count_before = table->count;
    }
    return 0;
}

/* ---- one file ---- */

static void segment_problem(struct walk_segment *segment, enum segment_form form, const char *text)
{
    segment->form = form;
    walk_segment_name(segment->problem_name, segment);
    (void)snprintf(segment->problem, sizeof segment->problem, "%.150s", text);
}

/* 1: looked at; 0: cannot be what its name says, told in problem; -ENOENT, -errno. */
static int segment_look(struct walk_segment *segment, enum segment_form form, struct file_io *io,
                        struct walk_file *file, struct err *err)
{
    struct err reason = {0};
    /* One old file that cannot be read must not keep anybody from all the others. */
    int result = form == SEGMENT_FORM_COMPACTED
                     ? walk_file_open_or_damaged(file, io, segment->id, form, &reason)
                     : walk_file_open(file, io, segment->id, form, &reason);
    if (result == ERR_CORRUPT || result == ERR_VERSION) {
        segment_problem(segment, form, reason.text);
        return 0;
    }
    if (result < 0) {
        return err_set(err, result, "%s", reason.text);
    }
    segment->form = form;
    segment->node = file->header.node;
    segment->file_bytes = file->file_bytes;
    segment->has_footer = file->has_footer;
    segment->footer = file->has_footer ? file->footer : (struct segment_footer){0};
    if (form == SEGMENT_FORM_COMPACTED) {
        segment->first_seq = file->footer.first_seq;
        segment->first_lsn = file->footer.first_lsn;
        return 1;
    }
    struct batch_header first;
    result = walk_file_header(file, WALK_FILE_BEGIN, &first, &reason);
    if (result > 0) {
        segment->first_seq = first.batch_seq;
        segment->first_lsn = first.first_lsn;
    }
    return result < 0 ? err_set(err, result, "%s", reason.text) : 1;
}

/* In whatever form it is there: 1, 0 when it has vanished, -errno. */
static int segment_look_any(struct walk_segment *segment, struct file_io *io,
                            struct walk_file *file, struct err *err)
{
    bool has_compacted = segment->has_compacted;
    int result = -ENOENT;
    if (!has_compacted) {
        result = segment_look(segment, SEGMENT_FORM_RAW, io, file, err);
        has_compacted = result == -ENOENT; /* or it has been compacted since it was listed */
    }
    if (has_compacted) {
        result = segment_look(segment, SEGMENT_FORM_COMPACTED, io, file, err);
        /* A damaged compacted file does not keep us from the raw one, when that is still there. */
        bool is_other = result == 0 && segment->has_raw &&
                        segment_look(segment, SEGMENT_FORM_RAW, io, file, NULL) > 0;
        result = is_other ? 1 : result;
    }
    if (result == 0) {
        segment->is_bad = true;
        return 1;
    }
    return result == -ENOENT ? 0 : result;
}

static bool segment_is_known(const struct walk_segment *known, const struct walk_segment *listed)
{
    return known != NULL && known->has_raw == listed->has_raw &&
           known->has_compacted == listed->has_compacted &&
           (known->first_seq != 0 || known->is_bad);
}

static int table_look(struct walk_table *table, const struct walk_table *old, struct file_io *io,
                      struct walk_file *file, struct err *err)
{
    size_t kept = 0;
    for (size_t i = 0; i < table->count; i++) {
        struct walk_segment segment = table->segments[i];
        const struct walk_segment *known = table_find(old, segment.id);
        int result = 1;
        if (segment_is_known(known, &segment)) {
            segment = *known;
        } else {
            result = segment_look_any(&segment, io, file, err);
            bool was_told = known != NULL && known->is_told;
            segment.is_told = was_told && strcmp(known->problem_name, segment.problem_name) == 0;
        }
        if (result < 0) {
            return result;
        }
        if (result > 0) {
            table->segments[kept++] = segment;
        }
    }
    table->count = kept;
    return 0;
}

/* ---- whose log it is ---- */

/* The node that the directory says it is, when any segment agrees; else that of the newest one. */
static bool table_node(const struct walk_table *table, struct file_io *io, struct ulid *node)
{
    const struct walk_segment *newest = NULL;
    struct ulid ours;
    bool has_ours = node_read(&ours, io, NULL) == 0;
    for (size_t i = 0; i < table->count; i++) {
        const struct walk_segment *segment = &table->segments[i];
        if (segment->is_bad || segment->first_seq == 0) {
            continue;
        }
        newest = segment;
        if (has_ours && memcmp(&segment->node, &ours, sizeof ours) == 0) {
            *node = ours;
            return true;
        }
    }
    if (newest != NULL) {
        *node = newest->node;
    }
    return newest != NULL;
}

static void table_refuse_strangers(struct walk_table *table, struct file_io *io)
{
    struct ulid node;
    if (!table_node(table, io, &node)) {
        return;
    }
    for (size_t i = 0; i < table->count; i++) {
        struct walk_segment *segment = &table->segments[i];
        bool is_stranger = !segment->is_bad && segment->first_seq != 0 &&
                           memcmp(&segment->node, &node, sizeof node) != 0;
        if (is_stranger) {
            segment->is_bad = true;
            segment_problem(segment, segment->form, "segment header: it belongs to another node");
        }
    }
}

/* ---- the table ---- */

int walk_table_list(struct walk_table *table, struct file_io *io, struct walk_file *scratch,
                    struct err *err)
{
    struct walk_table old = *table;
    *table = (struct walk_table){0};
    int result = table_names(table, &old, io);
    result = result < 0 ? err_set(err, result, "list " SEGMENT_DIR ": %s", err_name(result))
                        : table_look(table, &old, io, scratch, err);
    walk_file_close(scratch);
    if (result < 0) {
        table->count = 0;
    } else {
        table_refuse_strangers(table, io);
    }
    walk_table_end(&old);
    return result < 0 ? err_wrap(err, result, "list segments") : 0;
}

void walk_table_end(struct walk_table *table)
{
    mem_free(table->segments);
    *table = (struct walk_table){0};
}
