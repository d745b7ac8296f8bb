/* lineage: which stream an LSN belongs to; the file is believed only as it was written; an entry is durable before anything else. */
#include "store_fixture.h"

#include <stdlib.h>

#include "store/lineage.h"
#include "store/node.h"

static const struct ulid own = {{1, 2, 3}};

static struct ulid stream_of(uint8_t n)
{
    return (struct ulid){{9, n}};
}

static struct lineage *lineage_new(void)
{
    struct lineage *lineage = mem_alloc(sizeof *lineage);
    lineage_init(lineage, own);
    return lineage;
}

static void push(struct lineage *lineage, uint64_t from_lsn, uint8_t n)
{
    lineage->entries[lineage->count++] =
        (struct lineage_entry){.from_lsn = from_lsn, .stream = stream_of(n)};
}

static void expect_stream(const struct lineage *lineage, uint64_t lsn, struct ulid expected)
{
    struct ulid found = lineage_stream(lineage, lsn);
    assert_memory_equal(&found, &expected, sizeof found);
}

/* ---- what it says ---- */

static void without_entries_everything_is_the_nodes_own_stream(void **state)
{
    (void)state;
    struct lineage *lineage = lineage_new();
    struct ulid other = stream_of(1);
    expect_stream(lineage, 1, own);
    expect_stream(lineage, UINT64_MAX, own);
    assert_int_equal(lineage_border(lineage, 0), UINT64_MAX);
    assert_int_equal(lineage_cut(lineage, &own), UINT64_MAX);
    assert_true(lineage_has(lineage, &own));
    assert_false(lineage_has(lineage, &other));
    mem_free(lineage);
}

static void the_last_entry_that_begins_at_or_before_an_lsn_names_its_stream(void **state)
{
    (void)state;
    struct lineage *lineage = lineage_new();
    push(lineage, 101, 1);
    push(lineage, 251, 2);
    push(lineage, 91, 3); /* lost further back: both are superseded */
    push(lineage, 300, 4);
    expect_stream(lineage, 90, own);
    expect_stream(lineage, 91, stream_of(3));
    expect_stream(lineage, 101, stream_of(3));
    expect_stream(lineage, 299, stream_of(3));
    expect_stream(lineage, 300, stream_of(4));
    assert_int_equal(lineage_border(lineage, 1), 91);
    assert_int_equal(lineage_border(lineage, 90), 91);
    assert_int_equal(lineage_border(lineage, 91), 101);
    assert_int_equal(lineage_border(lineage, 299), 300);
    assert_int_equal(lineage_border(lineage, 300), UINT64_MAX);
    mem_free(lineage);
}

static void who_stood_in_a_stream_is_cut_at_the_least_border_made_since(void **state)
{
    (void)state;
    struct lineage *lineage = lineage_new();
    push(lineage, 101, 1);
    push(lineage, 251, 2);
    push(lineage, 91, 3);
    push(lineage, 300, 4);
    const uint64_t cuts[] = {91, 91, 91, 300, UINT64_MAX};
    for (uint8_t n = 0; n < 5; n++) {
        struct ulid stream = n == 0 ? own : stream_of(n);
        assert_int_equal(lineage_cut(lineage, &stream), cuts[n]);
    }
    struct ulid unknown = stream_of(77);
    assert_int_equal(lineage_cut(lineage, &unknown), 91);
    mem_free(lineage);
}

/* ---- the text ---- */

static struct slice text_of(const struct lineage *lineage, char *text)
{
    return (struct slice){(const uint8_t *)text, lineage_format(lineage, text)};
}

static void what_is_written_is_read_again(void **state)
{
    (void)state;
    struct lineage *lineage = lineage_new();
    struct lineage *again = lineage_new();
    char *text = mem_alloc(LINEAGE_BYTES_MAX);
    struct err err = {0};
    for (uint32_t n = 0; n < LINEAGE_ENTRIES_MAX; n++) { /* up to the longest text there is */
        push(lineage, n % 3 == 0 ? UINT64_MAX - n : n + 1, (uint8_t)n);
        assert_int_equal(lineage_parse(again, text_of(lineage, text), &err), 0);
        assert_int_equal(again->count, n + 1);
        assert_memory_equal(again->entries, lineage->entries, (n + 1) * sizeof again->entries[0]);
    }
    lineage_init(lineage, own);
    push(lineage, 101, 1);
    struct slice small = text_of(lineage, text);
    static const char begin[] = "sluice-lineage 1\nnode 01081G0000";
    assert_memory_equal(small.data, begin, 22);
    assert_non_null(memmem(small.data, small.bytes, "\n101 ", 5));
    mem_free(text);
    mem_free(again);
    mem_free(lineage);
}

/* From a buffer of its own, so that a sanitizer sees each byte too far. */
static int parse_copy(struct lineage *lineage, const char *text, size_t bytes, struct err *err)
{
    uint8_t *copy = malloc(bytes + (bytes == 0));
    memcpy(copy, text, bytes);
    int r = lineage_parse(lineage, (struct slice){copy, bytes}, err);
    free(copy);
    return r;
}

static void every_truncation_and_every_other_byte_is_damage(void **state)
{
    (void)state;
    struct lineage *lineage = lineage_new();
    char *text = mem_alloc(LINEAGE_BYTES_MAX);
    struct err err = {0};
    push(lineage, 101, 1);
    push(lineage, 251, 2);
    size_t bytes = lineage_format(lineage, text);
    lineage_init(lineage, own);
    for (size_t at = 0; at < bytes; at++) {
        assert_int_equal(parse_copy(lineage, text, at, &err), ERR_CORRUPT);
        for (unsigned bit = 0; bit < 8; bit++) {
            text[at] = (char)(text[at] ^ (char)(1u << bit));
            assert_int_equal(parse_copy(lineage, text, bytes, &err), ERR_CORRUPT);
            text[at] = (char)(text[at] ^ (char)(1u << bit));
        }
        assert_int_equal(lineage->count, 0); /* nothing of it was believed */
    }
    assert_non_null(strstr(err.text, "from a backup"));
    text[bytes] = '\n';
    assert_int_equal(parse_copy(lineage, text, bytes + 1, &err), ERR_CORRUPT);
    assert_int_equal(parse_copy(lineage, text, bytes, &err), 0);
    assert_int_equal(lineage->count, 2);
    mem_free(text);
    mem_free(lineage);
}

static void another_nodes_lineage_is_refused(void **state)
{
    (void)state;
    struct lineage *lineage = lineage_new();
    struct lineage *theirs = lineage_new();
    char *text = mem_alloc(LINEAGE_BYTES_MAX);
    struct err err = {0};
    theirs->node = stream_of(7);
    push(theirs, 5, 1);
    assert_int_equal(lineage_parse(lineage, text_of(theirs, text), &err), ERR_CORRUPT);
    assert_non_null(strstr(err.text, "another node"));
    mem_free(text);
    mem_free(theirs);
    mem_free(lineage);
}

/* ---- the file ---- */

struct disk {
    struct sim_disk *sim;
    struct file_io *io;
};

static struct disk disk_new(uint64_t seed)
{
    struct sim_disk_options options = {.seed = seed,
                                       .capacity_bytes = MIB(4),
                                       .delay_ns_min = 50 * NS_US,
                                       .delay_ns_max = 200 * NS_US};
    struct sim_disk *sim = sim_disk_create(&options);
    return (struct disk){sim, sim_disk_io(sim)};
}

/* The power goes, if it has not gone yet, and comes back. */
static void die(const struct disk *disk)
{
    sim_disk_crash_after(disk->sim, 0);
    if (!sim_disk_is_dead(disk->sim)) {
        sim_disk_crash(disk->sim);
    }
    sim_disk_restart(disk->sim);
}

static void mark(struct file_io *io)
{
    struct file file;
    assert_int_equal(io->ops->open(io, LINEAGE_MARKER, FILE_OPEN_CREATE, &file), 0);
    assert_int_equal(io->ops->sync(io, file), 0);
    io->ops->close(io, file);
    assert_int_equal(io->ops->sync_dir(io, ""), 0);
}

static bool is_marked(struct file_io *io)
{
    struct file file;
    if (io->ops->open(io, LINEAGE_MARKER, FILE_OPEN_READ_ONLY, &file) < 0) {
        return false;
    }
    io->ops->close(io, file);
    return true;
}

static int add(struct lineage *lineage, struct file_io *io, uint64_t from_lsn, uint8_t n)
{
    struct err err = {0};
    return lineage_add(lineage, io, (struct lineage_entry){from_lsn, stream_of(n)}, &err);
}

static void a_crash_within_a_write_leaves_the_old_or_the_new(void **state)
{
    (void)state;
    unsigned olds = 0;
    unsigned news = 0;
    struct err err = {0};
    for (uint64_t seed = 1; seed <= 20; seed++) {
        bool is_done = false;
        for (uint64_t calls = 1; !is_done; calls++) { /* until no crash comes any more */
            struct disk disk = disk_new(seed * 1000 + calls);
            struct lineage *lineage = lineage_new();
            assert_int_equal(add(lineage, disk.io, 101, 1), 0);
            sim_disk_crash_after(disk.sim, calls);
            is_done = add(lineage, disk.io, 251, 2) == 0;
            assert_int_equal(lineage->count, is_done ? 2 : 1);
            die(&disk);
            assert_int_equal(lineage_read(lineage, disk.io, own, &err), 0);
            assert_in_range(lineage->count, is_done ? 2 : 1, 2);
            olds += lineage->count == 1;
            news += lineage->count == 2;
            mem_free(lineage);
            sim_disk_destroy(disk.sim);
        }
    }
    assert_true(olds > 20 && news > 20);
}

static void entries_that_others_have_superseded_make_room(void **state)
{
    (void)state;
    struct disk disk = disk_new(3);
    struct lineage *lineage = lineage_new();
    for (uint32_t n = 0; n < LINEAGE_ENTRIES_MAX - 2; n++) {
        push(lineage, 1000 - n, (uint8_t)n); /* each supersedes the one before */
    }
    push(lineage, 2000, 201);
    push(lineage, 2000, 202);
    assert_int_equal(add(lineage, disk.io, 3000, 203), 0);
    assert_int_equal(lineage->count, 3);
    expect_stream(lineage, 2999, stream_of(202));
    expect_stream(lineage, 3000, stream_of(203));
    expect_stream(lineage, 1999, stream_of((uint8_t)(LINEAGE_ENTRIES_MAX - 3)));
    lineage->count = 0;
    for (uint32_t n = 0; n < LINEAGE_ENTRIES_MAX; n++) {
        push(lineage, n + 1, (uint8_t)n);
    }
    assert_int_equal(add(lineage, disk.io, 3000, 204), ERR_LIMIT);
    assert_int_equal(lineage->count, LINEAGE_ENTRIES_MAX);
    mem_free(lineage);
    sim_disk_destroy(disk.sim);
}

/* ---- reasons ---- */

static int settle(struct lineage *lineage, struct file_io *io, uint64_t last_lsn, uint64_t seen)
{
    struct lineage_witness witness = {0};
    struct err err = {0};
    lineage_witness_note(&witness, seen, "sink %s", "up");
    lineage_witness_note(&witness, seen / 2, "another");
    return lineage_settle(lineage, io, last_lsn, &witness, &err);
}

static void only_a_witness_beyond_the_end_is_a_reason(void **state)
{
    (void)state;
    struct disk disk = disk_new(4);
    struct lineage *lineage = lineage_new();
    assert_int_equal(settle(lineage, disk.io, 0, 0), 0);
    assert_int_equal(settle(lineage, disk.io, 100, 100), 0);
    assert_int_equal(lineage->count, 0);
    assert_int_equal(settle(lineage, disk.io, 100, 101), 0);
    assert_int_equal(lineage->count, 1);
    assert_int_equal(lineage->entries[0].from_lsn, 101);
    expect_stream(lineage, 100, own);
    assert_int_equal(settle(lineage, disk.io, 0, 101), 0); /* all of it is gone */
    assert_int_equal(lineage->entries[1].from_lsn, 1);
    assert_memory_not_equal(&lineage->entries[0].stream, &lineage->entries[1].stream,
                            sizeof(struct ulid));
    mem_free(lineage);
    sim_disk_destroy(disk.sim);
}

/* Whatever moment a crash picks: while the marker is there, or was, no start goes on without an entry. */
static void a_restored_directory_gets_its_entry_before_the_mark_goes(void **state)
{
    (void)state;
    struct err err = {0};
    unsigned twice = 0;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        bool is_done = false;
        for (uint64_t calls = 1; !is_done; calls++) {
            struct disk disk = disk_new(seed * 1000 + calls);
            struct lineage *lineage = lineage_new();
            mark(disk.io);
            sim_disk_crash_after(disk.sim, calls);
            (void)settle(lineage, disk.io, 100, 0);
            is_done = !sim_disk_is_dead(disk.sim);
            die(&disk);
            assert_int_equal(lineage_read(lineage, disk.io, own, &err), 0);
            assert_true(is_marked(disk.io) || lineage->count == 1);
            assert_int_equal(settle(lineage, disk.io, 100, 0), 0);
            assert_false(is_marked(disk.io));
            assert_in_range(lineage->count, 1, 2);
            twice += lineage->count == 2;
            for (uint32_t i = 0; i < lineage->count; i++) {
                assert_int_equal(lineage->entries[i].from_lsn, 101);
            }
            uint32_t count = lineage->count;
            assert_int_equal(settle(lineage, disk.io, 150, 0), 0); /* the next start */
            assert_int_equal(lineage->count, count);
            mem_free(lineage);
            sim_disk_destroy(disk.sim);
        }
    }
    assert_true(twice > 0);
}

/* ---- the store ---- */

struct asked {
    uint64_t seen;
    int result;
    unsigned times;
};

static int on_witness(void *context, const struct lineage *lineage, struct lineage_witness *witness,
                      struct err *err)
{
    struct asked *asked = context;
    asked->times++;
    assert_non_null(lineage);
    lineage_witness_note(witness, asked->seen, "a test");
    return asked->result < 0 ? err_set(err, asked->result, "not to be served") : 0;
}

static void a_store_asks_once_and_its_stream_outlives_it(void **state)
{
    (void)state;
    struct fixture fx;
    struct asked asked = {.seen = 40};
    fx_init(&fx, 5);
    struct ulid node = store_node(fx.store);
    assert_int_equal(store_lineage(fx.store)->count, 0);
    store_close(fx.store);
    fx.options.witness = on_witness;
    fx.options.witness_context = &asked;
    fx_open(&fx);
    assert_int_equal(asked.times, 1);
    const struct lineage *lineage = store_lineage(fx.store);
    assert_int_equal(lineage->count, 1);
    assert_int_equal(lineage->entries[0].from_lsn, 1);
    assert_memory_equal(&lineage->node, &node, sizeof node);
    struct ulid stream = lineage_current(lineage);
    store_close(fx.store);
    asked.seen = 0;
    fx_open(&fx);
    struct ulid again = lineage_current(store_lineage(fx.store));
    assert_memory_equal(&again, &stream, sizeof stream);
    store_close(fx.store);
    asked.result = -EPERM;
    assert_int_equal(
        store_open_single(&fx.store, &fx.options, sim_disk_io(fx.disk), &fx.report, &fx.err),
        -EPERM);
    assert_non_null(strstr(fx.err.text, "not to be served"));
    sim_disk_destroy(fx.disk);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_entries_everything_is_the_nodes_own_stream),
        cmocka_unit_test(the_last_entry_that_begins_at_or_before_an_lsn_names_its_stream),
        cmocka_unit_test(who_stood_in_a_stream_is_cut_at_the_least_border_made_since),
        cmocka_unit_test(what_is_written_is_read_again),
        cmocka_unit_test(every_truncation_and_every_other_byte_is_damage),
        cmocka_unit_test(another_nodes_lineage_is_refused),
        cmocka_unit_test(a_crash_within_a_write_leaves_the_old_or_the_new),
        cmocka_unit_test(entries_that_others_have_superseded_make_room),
        cmocka_unit_test(only_a_witness_beyond_the_end_is_a_reason),
        cmocka_unit_test(a_restored_directory_gets_its_entry_before_the_mark_goes),
        cmocka_unit_test(a_store_asks_once_and_its_stream_outlives_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
