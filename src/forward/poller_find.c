#include "forward/poller_find.h"

#include <string.h>

enum {
    PHASE_OLDEST = 0, /* which is the oldest record there is? */
    PHASE_CONFIRM, /* does the record that the cache names carry that mark? One poller after another */
    PHASE_NEWEST, /* backwards through what the cache does not vouch for */
    PHASE_DONE,
};

void poller_find_begin(struct poller_find *find, const struct scan_source *source,
                       struct poller_place *places, unsigned count)
{
    ASSERT(count <= CONFIG_POLLERS_MAX);
    *find = (struct poller_find){.source = *source, .places = places, .count = count};
    /* W1: everything up to here can be read. */
    find->last_lsn = atomic_load_explicit(source->durable_lsn, memory_order_acquire);
}

void poller_find_end(struct poller_find *find)
{
    if (find->scan != NULL) {
        scan_free(find->scan);
        find->scan = NULL;
    }
}

static bool mark_of(const struct record *record, const char *name, struct slice *mark)
{
    struct watermark watermark;
    struct origin origin;
    if (record->meta.bytes == 0 || meta_find_watermark(&watermark, record->meta) != 1 ||
        meta_find_origin(&origin, record->meta) == 1) {
        return false;
    }
    struct slice of_name = {(const uint8_t *)name, strlen(name)};
    *mark = watermark.mark;
    return slice_equal(watermark.source, of_name) && watermark.mark.bytes <= WATERMARK_MARK_MAX;
}

/* ---- the phases' takers ---- */

static bool on_oldest(void *context, const struct scan_record *record)
{
    struct poller_find *find = context;
    find->oldest_lsn = record->lsn;
    return false;
}

static bool on_named(void *context, const struct scan_record *record)
{
    struct poller_find *find = context;
    const struct poller_place *place = &find->places[find->at];
    struct slice mark;
    find->is_confirmed[find->at] =
        mark_of(&record->record, place->name, &mark) &&
        slice_equal(mark, (struct slice){place->mark.data, place->mark.bytes});
    return false;
}

static bool on_newest(void *context, const struct scan_record *record)
{
    struct poller_find *find = context;
    bool is_any_missing = false;
    for (unsigned i = 0; i < find->count; i++) {
        struct poller_place *place = &find->places[i];
        struct slice mark;
        if (!find->is_found[i] && record->record.meta.bytes != 0 &&
            mark_of(&record->record, place->name, &mark)) {
            find->is_found[i] = true;
            place->mark_lsn = record->lsn;
            place->mark.bytes = mark.bytes;
            memcpy(place->mark.data, mark.data, mark.bytes);
        }
        is_any_missing |= !find->is_found[i];
    }
    return is_any_missing;
}

/* ---- the phases ---- */

static struct scan *begin_scan(struct poller_find *find, uint64_t lsn_min, uint64_t lsn_max,
                               scan_take_fn take)
{
    struct scan_options options = {
        .filter = {.kinds = take == on_oldest ? 0 : 1u << RECORD_METRIC,
                   .time_min_ns = INT64_MIN,
                   .time_max_ns = INT64_MAX,
                   .lsn_min = lsn_min,
                   .lsn_max = lsn_max},
        .is_descending = take == on_newest,
        .take = take,
        .context = find,
    };
    return scan_new(&find->source, &options);
}

/* Runs the open scan. 1: it is over. */
static int run_scan(struct poller_find *find, struct err *err)
{
    int r = scan_step(find->scan, err);
    if (r == SCAN_MORE) {
        return 0;
    }
    if (r < 0) {
        return r;
    }
    poller_find_end(find);
    return 1;
}

static int find_oldest(struct poller_find *find, struct err *err)
{
    if (find->scan == NULL) {
        find->oldest_lsn = UINT64_MAX; /* an empty log: whatever there was has expired */
        find->scan = begin_scan(find, 0, UINT64_MAX, on_oldest);
    }
    int r = run_scan(find, err);
    if (r == 1) {
        find->phase = PHASE_CONFIRM;
    }
    return r < 0 ? r : 0;
}

/* Whether the cache's place needs no look at the log, and if so whether it holds. */
static bool is_plain(struct poller_find *find, const struct poller_place *place)
{
    bool is_possible = place->as_of_lsn <= find->last_lsn && place->mark_lsn <= place->as_of_lsn;
    if (!is_possible || place->as_of_lsn == 0) {
        return true; /* of a log that has lost its end since, or of nothing */
    }
    if (place->mark_lsn == 0 || place->mark_lsn < find->oldest_lsn) {
        find->is_confirmed[find->at] = true;
        return true;
    }
    return false;
}

static int confirm(struct poller_find *find, struct err *err)
{
    if (find->at == find->count) {
        find->phase = PHASE_NEWEST;
        return 0;
    }
    const struct poller_place *place = &find->places[find->at];
    if (find->scan == NULL) {
        if (is_plain(find, place)) {
            find->at++;
            return 0;
        }
        find->scan = begin_scan(find, place->mark_lsn, place->mark_lsn, on_named);
    }
    int r = run_scan(find, err);
    if (r == 1) {
        find->at++;
    }
    return r < 0 ? r : 0;
}

static void begin_newest(struct poller_find *find)
{
    uint64_t from = UINT64_MAX;
    for (unsigned i = 0; i < find->count; i++) {
        struct poller_place *place = &find->places[i];
        if (!find->is_confirmed[i]) {
            place->as_of_lsn = place->mark_lsn = 0;
            place->mark.bytes = 0;
        }
        from = u64_min(from, place->as_of_lsn + 1);
    }
    if (from <= find->last_lsn) {
        find->scan = begin_scan(find, from, find->last_lsn, on_newest);
    }
}

static int find_newest(struct poller_find *find, struct err *err)
{
    if (find->scan == NULL) {
        begin_newest(find);
    }
    int r = find->scan == NULL ? 1 : run_scan(find, err);
    if (r != 1) {
        return r;
    }
    for (unsigned i = 0; i < find->count; i++) {
        find->places[i].as_of_lsn = find->last_lsn;
    }
    find->phase = PHASE_DONE;
    return 1;
}

int poller_find_step(struct poller_find *find, struct err *err)
{
    switch (find->phase) {
    case PHASE_OLDEST:
        return find_oldest(find, err);
    case PHASE_CONFIRM:
        return confirm(find, err);
    case PHASE_NEWEST:
        return find_newest(find, err);
    default:
        return 1;
    }
}
