#include "store/view_load.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/mem.h"
#include "store/segment.h"

/* A file that vanishes between the listing and its opening has become another one or has expired. */
#define LISTINGS_MAX 8
/* Ids follow each other. A listing is read in pieces, so one that runs beside a compaction may miss the raw
 * file (gone already) and the compacted one (not there yet); a hole that is seen so often is one. */
#define HOLES_MAX 3

struct names {
    struct name {
        uint64_t id;
        bool is_compacted;
    } * items;
    size_t count;
    size_t room;
};

struct load {
    struct file_io *io;
    void (*on_problem)(void *context, const char *line);
    void *context;
    struct names names;
    unsigned holes_seen; /* listings with one */
    struct err *problems;
    size_t problem_count;
    size_t problem_room;
    struct view_segment **segments;
    size_t count;
};

static void on_name(void *context, const char *text)
{
    struct names *names = context;
    uint64_t id = 0;
    bool is_compacted = compacted_parse_name(&id, text);
    if (!is_compacted && !segment_parse_name(&id, text)) {
        return;
    }
    if (names->count == names->room) {
        size_t room = names->room == 0 ? 64 : 2 * names->room;
        struct name *larger = mem_alloc_array(room, sizeof *larger);
        if (names->count > 0) {
            memcpy(larger, names->items, names->count * sizeof *larger);
        }
        mem_free(names->items);
        names->items = larger;
        names->room = room;
    }
    names->items[names->count++] = (struct name){id, is_compacted};
}

/* By id; of one id the compacted form first. */
static int compare_names(const void *a, const void *b)
{
    const struct name *left = a;
    const struct name *right = b;
    if (left->id != right->id) {
        return left->id < right->id ? -1 : 1;
    }
    return (int)right->is_compacted - (int)left->is_compacted;
}

/* Kept until it is known that this listing is the one that counts: nothing is told twice. */
static void note_problem(struct load *load, const struct err *err)
{
    if (load->problem_count == load->problem_room) {
        size_t room = load->problem_room == 0 ? 4 : 2 * load->problem_room;
        struct err *larger = mem_alloc_array(room, sizeof *larger);
        if (load->problem_count > 0) {
            memcpy(larger, load->problems, load->problem_count * sizeof *larger);
        }
        mem_free(load->problems);
        load->problems = larger;
        load->problem_room = room;
    }
    load->problems[load->problem_count++] = *err;
}

static void tell_problems(const struct load *load)
{
    for (size_t i = 0; load->on_problem != NULL && i < load->problem_count; i++) {
        load->on_problem(load->context, load->problems[i].text);
    }
}

/* 0; -ENOENT: gone meanwhile; another error: nothing of it can be used. */
static int open_raw(const struct load *load, uint64_t id, struct view_segment **segment,
                    struct err *err)
{
    int r = view_segment_open(segment, load->io, id, VIEW_SEALED, err);
    /* Not sealed yet is the normal case for the newest; a damaged footer reads the same way. */
    return r == 0 || r == -ENOENT ? r : view_segment_open(segment, load->io, id, VIEW_ACTIVE, err);
}

static int open_name(struct load *load, const struct name *name, struct err *err)
{
    struct view_segment *segment = NULL;
    int r = name->is_compacted
                ? view_segment_open(&segment, load->io, name->id, VIEW_COMPACTED, err)
                : open_raw(load, name->id, &segment, err);
    if (r == 0) {
        load->segments[load->count++] = segment;
    } else if (r != -ENOENT) {
        note_problem(load, err);
    }
    return r == -ENOENT ? r : 0;
}

static bool is_loaded(const struct load *load, uint64_t id)
{
    return load->count > 0 && load->segments[load->count - 1]->id == id;
}

static void give_all(struct load *load)
{
    for (size_t i = 0; i < load->count; i++) {
        view_segment_give(load->segments[i]);
    }
    load->count = 0;
    load->problem_count = 0;
}

static bool has_hole(const struct names *names)
{
    for (size_t i = 1; i < names->count; i++) {
        if (names->items[i].id - names->items[i - 1].id > 1) {
            return true;
        }
    }
    return false;
}

/* 0, or -EAGAIN: the directory changed under our hands. */
static int load_once(struct load *load, struct err *err)
{
    load->names.count = 0;
    int r = load->io->ops->list(load->io, SEGMENT_DIR, on_name, &load->names);
    if (r < 0) {
        return err_set(err, r, "list %s: %s", SEGMENT_DIR, err_name(r));
    }
    if (load->names.count > 0) {
        qsort(load->names.items, load->names.count, sizeof *load->names.items, compare_names);
    }
    if (has_hole(&load->names) && load->holes_seen++ < HOLES_MAX) {
        return -EAGAIN;
    }
    mem_free(load->segments);
    load->segments = mem_alloc_array(load->names.count + 1, sizeof(struct view_segment *));
    for (size_t i = 0; r == 0 && i < load->names.count; i++) {
        const struct name *name = &load->names.items[i];
        r = is_loaded(load, name->id) ? 0 : open_name(load, name, err);
    }
    return r == -ENOENT ? -EAGAIN : r;
}

int log_views_load(struct log_views *views, struct file_io *io,
                   void (*on_problem)(void *context, const char *line), void *context,
                   struct err *err)
{
    struct load load = {.io = io, .on_problem = on_problem, .context = context};
    int r = -EAGAIN;
    for (unsigned i = 0; r == -EAGAIN && i < LISTINGS_MAX; i++) {
        give_all(&load);
        r = load_once(&load, err);
    }
    if (r == 0) {
        tell_problems(&load);
        log_views_publish(views, load.segments, load.count);
    } else if (r == -EAGAIN) {
        r = err_set(err, -EAGAIN, "%s changes faster than it can be listed", SEGMENT_DIR);
    }
    give_all(&load);
    mem_free(load.segments);
    mem_free(load.names.items);
    mem_free(load.problems);
    return r;
}
