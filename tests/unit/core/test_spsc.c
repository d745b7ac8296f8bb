/*
 * spsc, one thread playing both ends: what each call promises, on a ring of one page and around the
 * wrap of positions. The orders between two threads are test_spsc_model.c's and
 * test_spsc_stress.c's business.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/spsc.h"

#define RING_BYTES 4096u
/* Positions pass 2^64 after two frames of 32 bytes. */
#define NEAR_WRAP (0 - (uint64_t)64)

static struct spsc ring;

static int open_ring(void **state)
{
    (void)state;
    struct err err = {0};
    assert_int_equal(spsc_init(&ring, RING_BYTES, 0, &err), 0);
    return 0;
}

static int open_ring_near_wrap(void **state)
{
    (void)state;
    struct err err = {0};
    assert_int_equal(spsc_init(&ring, RING_BYTES, NEAR_WRAP, &err), 0);
    return 0;
}

static int close_ring(void **state)
{
    (void)state;
    spsc_close(&ring);
    return 0;
}

/* ---------------------------------------------------------------- verbs */

static uint64_t put(uint32_t type, uint64_t bytes, int fill)
{
    uint8_t *room = spsc_claim(&ring, bytes);
    assert_non_null(room);
    memset(room, fill, bytes);
    return spsc_commit(&ring, type, bytes);
}

static void expect_bytes(const uint8_t *data, uint64_t bytes, int fill)
{
    for (uint64_t i = 0; i < bytes; i++) {
        assert_int_equal(data[i], (uint8_t)fill);
    }
}

static const struct spsc_frame *expect(uint32_t type, uint64_t bytes, int fill)
{
    const struct spsc_frame *frame = spsc_take(&ring);
    assert_non_null(frame);
    assert_int_equal(frame->type, type);
    assert_int_equal(frame->bytes, bytes);
    expect_bytes(frame->payload, bytes, fill);
    return frame;
}

static void expect_nothing(void)
{
    assert_null(spsc_take(&ring));
}

/* Moves both sides on by bytes (a multiple of 16, at least 16) and leaves the ring empty. */
static void advance(uint64_t bytes)
{
    put(9, bytes - SPSC_FRAME_ALIGN, 0);
    spsc_publish(&ring);
    assert_non_null(spsc_take(&ring));
    spsc_release(&ring);
}

static uint64_t offset_of(const uint8_t *payload)
{
    return (uint64_t)(payload - ring.memory) - SPSC_FRAME_ALIGN;
}

/* ---------------------------------------------------------------- promises */

static void committed_frame_is_invisible_until_published(void **state)
{
    (void)state;
    put(1, 5, 'a');
    expect_nothing();
    assert_true(spsc_is_empty(&ring));
    assert_true(spsc_publish(&ring));
    assert_false(spsc_is_empty(&ring));
    expect(1, 5, 'a');
    assert_true(spsc_is_empty(&ring));
}

static void publish_without_news_says_so(void **state)
{
    (void)state;
    assert_false(spsc_publish(&ring));
    put(1, 5, 'a');
    assert_true(spsc_publish(&ring));
    assert_false(spsc_publish(&ring));
}

static void one_publish_shows_every_committed_frame_in_order(void **state)
{
    (void)state;
    put(1, 0, 0);
    put(2, 1, 'b');
    put(3, 16, 'c');
    put(4, 17, 'd');
    spsc_publish(&ring);
    expect(1, 0, 0);
    expect(2, 1, 'b');
    expect(3, 16, 'c');
    expect(4, 17, 'd');
    expect_nothing();
}

static void end_is_the_position_just_after_the_padded_frame(void **state)
{
    (void)state;
    uint64_t start = ring.committed;
    uint64_t first = put(1, 1, 'a');
    uint64_t second = put(1, 16, 'b');
    uint64_t third = put(1, 0, 'c');
    assert_int_equal(first - start, 32);
    assert_int_equal(second - start, 64);
    assert_int_equal(third - start, 80);
    spsc_publish(&ring);
    assert_int_equal(expect(1, 1, 'a')->end, first);
    assert_int_equal(expect(1, 16, 'b')->end, second);
    assert_int_equal(expect(1, 0, 'c')->end, third);
}

static void payload_is_aligned_for_any_type(void **state)
{
    (void)state;
    for (uint64_t bytes = 0; bytes < 40; bytes++) {
        uint8_t *room = spsc_claim(&ring, bytes);
        assert_non_null(room);
        assert_int_equal((uintptr_t)room % SPSC_FRAME_ALIGN, 0);
        spsc_commit(&ring, 1, bytes);
    }
}

static void commit_may_use_less_than_was_claimed(void **state)
{
    (void)state;
    uint8_t *room = spsc_claim(&ring, 1000);
    assert_non_null(room);
    room[0] = 'x';
    uint64_t start = ring.committed;
    assert_int_equal(spsc_commit(&ring, 7, 1) - start, 32);
    spsc_publish(&ring);
    expect(7, 1, 'x');
    expect_nothing();
}

static void abandoned_claim_leaves_no_trace(void **state)
{
    (void)state;
    uint64_t before = spsc_used_bytes(&ring);
    memset(spsc_claim(&ring, 100), 'z', 100);
    assert_int_equal(spsc_used_bytes(&ring), before);
    assert_false(spsc_publish(&ring));
    put(1, 3, 'a');
    spsc_publish(&ring);
    expect(1, 3, 'a');
    expect_nothing();
}

static void largest_frame_fills_the_ring_exactly(void **state)
{
    (void)state;
    assert_null(spsc_claim(&ring, RING_BYTES - SPSC_FRAME_ALIGN + 1));
    put(1, RING_BYTES - SPSC_FRAME_ALIGN, 'f');
    assert_int_equal(spsc_used_bytes(&ring), RING_BYTES);
    assert_null(spsc_claim(&ring, 0));
    spsc_publish(&ring);
    assert_int_equal(spsc_pending_bytes(&ring), RING_BYTES);
    expect(1, RING_BYTES - SPSC_FRAME_ALIGN, 'f');
}

static void claim_beyond_capacity_or_32_bits_returns_null(void **state)
{
    (void)state;
    uint64_t bytes = 1;
    assert_null(spsc_claim(&ring, RING_BYTES));
    assert_null(spsc_claim(&ring, (uint64_t)UINT32_MAX + 1));
    assert_null(spsc_claim(&ring, UINT64_MAX));
    assert_null(spsc_claim(&ring, UINT64_MAX - 15));
    assert_null(spsc_claim_most(&ring, UINT64_MAX, &bytes));
    assert_int_equal(bytes, 0);
}

static void full_ring_returns_null_and_keeps_data(void **state)
{
    (void)state;
    for (int i = 0; i < 128; i++) {
        put(1, 16, i);
    }
    assert_null(spsc_claim(&ring, 0));
    spsc_publish(&ring);
    assert_null(spsc_claim(&ring, 1));
    for (int i = 0; i < 128; i++) {
        expect(1, 16, i);
    }
    expect_nothing();
}

static void room_comes_back_only_with_release(void **state)
{
    (void)state;
    put(1, RING_BYTES - SPSC_FRAME_ALIGN, 'f');
    spsc_publish(&ring);
    const struct spsc_frame *frame = expect(1, RING_BYTES - SPSC_FRAME_ALIGN, 'f');
    assert_null(spsc_claim(&ring, 0));
    expect_bytes(frame->payload, frame->bytes, 'f');
    spsc_release(&ring);
    assert_non_null(spsc_claim(&ring, 0));
}

static void release_frees_everything_taken_at_once(void **state)
{
    (void)state;
    put(1, 100, 'a');
    put(2, 100, 'b');
    put(3, 100, 'c');
    spsc_publish(&ring);
    expect(1, 100, 'a');
    expect(2, 100, 'b');
    spsc_release(&ring);
    assert_int_equal(spsc_used_bytes(&ring), 128);
    assert_int_equal(spsc_pending_bytes(&ring), 128);
    expect(3, 100, 'c');
}

static void pending_counts_published_bytes_only(void **state)
{
    (void)state;
    put(1, 16, 'a');
    assert_int_equal(spsc_pending_bytes(&ring), 0);
    assert_int_equal(spsc_used_bytes(&ring), 32);
    spsc_publish(&ring);
    put(1, 16, 'b');
    assert_int_equal(spsc_pending_bytes(&ring), 32);
    assert_int_equal(spsc_used_bytes(&ring), 64);
}

static void frame_across_the_end_of_memory_is_contiguous(void **state)
{
    (void)state;
    ring.rewind_bytes = RING_BYTES - 16; /* never skip: this is about the mirror */
    advance(RING_BYTES - 48);
    uint8_t *room = spsc_claim(&ring, 500);
    assert_int_equal(offset_of(room), RING_BYTES - 48);
    for (int i = 0; i < 500; i++) {
        room[i] = (uint8_t)i;
    }
    spsc_commit(&ring, 1, 500);
    spsc_publish(&ring);
    const struct spsc_frame *frame = spsc_take(&ring);
    assert_int_equal(frame->bytes, 500);
    for (int i = 0; i < 500; i++) {
        assert_int_equal(frame->payload[i], (uint8_t)i);
    }
    /* The bytes beyond the end are the ones at the start: offset 32 of the payload is memory[0]. */
    assert_memory_equal(ring.memory, frame->payload + 32, 468);
}

static void positions_pass_2_to_the_64(void **state)
{
    (void)state;
    ring.rewind_bytes =
        RING_BYTES - 16; /* the start is far in: without this the first claim skips over the wrap */
    put(1, 16, 'a');
    put(2, 16, 'b');
    uint64_t end = put(3, 16, 'c');
    assert_int_equal(end, 32);
    assert_int_equal(spsc_used_bytes(&ring), 96);
    spsc_publish(&ring);
    assert_int_equal(spsc_pending_bytes(&ring), 96);
    expect(1, 16, 'a');
    spsc_release(&ring);
    expect(2, 16, 'b');
    spsc_release(&ring);
    expect(3, 16, 'c');
    spsc_release(&ring);
    expect_nothing();
    assert_int_equal(spsc_used_bytes(&ring), 0);
    spsc_validate(&ring);
}

static void full_ring_across_2_to_the_64_keeps_data(void **state)
{
    ring.rewind_bytes = RING_BYTES - 16;
    full_ring_returns_null_and_keeps_data(state);
}

static void claim_most_gives_all_that_is_free(void **state)
{
    (void)state;
    uint64_t bytes = 0;
    put(1, 1000 - 16, 'a');
    uint8_t *room = spsc_claim_most(&ring, 1, &bytes);
    assert_non_null(room);
    assert_int_equal(bytes, RING_BYTES - 1008 - SPSC_FRAME_ALIGN);
    memset(room, 'm', bytes);
    spsc_commit(&ring, 2, bytes);
    assert_null(spsc_claim(&ring, 0));
    spsc_publish(&ring);
    expect(1, 984, 'a');
    expect(2, RING_BYTES - 1008 - SPSC_FRAME_ALIGN, 'm');
}

static void claim_most_refuses_less_than_the_minimum(void **state)
{
    (void)state;
    uint64_t bytes = 1;
    put(1, 2032, 'a');
    assert_non_null(spsc_claim_most(&ring, 2032, &bytes));
    assert_int_equal(bytes, 2032);
    assert_null(spsc_claim_most(&ring, 2033, &bytes));
    assert_int_equal(bytes, 0);
}

static void empty_ring_far_in_starts_again_at_the_beginning(void **state)
{
    (void)state;
    advance(2048);
    uint8_t *room = spsc_claim(&ring, 100);
    assert_int_equal(offset_of(room), 0);
    memset(room, 'p', 100);
    assert_int_equal(spsc_commit(&ring, 5, 100), RING_BYTES + 128);
    /* The skipped stretch holds nothing, so it is not used; who only sees positions sees its
     * length. */
    assert_int_equal(spsc_used_bytes(&ring), 128);
    spsc_publish(&ring);
    assert_int_equal(spsc_pending_bytes(&ring), 2048 + 128);
    expect(5, 100, 'p');
    expect_nothing();
    spsc_release(&ring);
    assert_int_equal(spsc_used_bytes(&ring), 0);
}

static void claim_given_up_after_a_skip_leaves_no_trace(void **state)
{
    (void)state;
    advance(2048);
    assert_int_equal(offset_of(spsc_claim(&ring, 100)), 0);
    assert_false(spsc_publish(&ring));
    assert_int_equal(spsc_used_bytes(&ring), 0);
    expect_nothing();
    ring.rewind_bytes = RING_BYTES - 16; /* and the next one may even stay where it is */
    put(1, 100, 'n');
    assert_int_equal(ring.committed, 2048 + 128);
    spsc_publish(&ring);
    expect(1, 100, 'n');
    spsc_validate(&ring);
}

static void near_the_start_there_is_no_skip(void **state)
{
    (void)state;
    assert_int_equal(ring.rewind_bytes, RING_BYTES / 4);
    advance(RING_BYTES / 4);
    assert_int_equal(offset_of(spsc_claim(&ring, 16)), RING_BYTES / 4);
    advance(16);
    assert_int_equal(offset_of(spsc_claim(&ring, 16)), 0);
}

static void no_skip_while_anything_is_unpublished_or_unreleased(void **state)
{
    (void)state;
    advance(2048);
    ring.rewind_bytes = RING_BYTES;
    put(1, 16, 'a');
    ring.rewind_bytes = RING_BYTES / 4;
    assert_int_equal(offset_of(spsc_claim(&ring, 16)), 2048 + 32); /* unpublished */
    spsc_publish(&ring);
    assert_int_equal(offset_of(spsc_claim(&ring, 16)), 2048 + 32); /* untaken */
    expect(1, 16, 'a');
    assert_int_equal(offset_of(spsc_claim(&ring, 16)), 2048 + 32); /* unreleased */
    spsc_release(&ring);
    assert_int_equal(offset_of(spsc_claim(&ring, 16)), 0);
}

static void whole_capacity_is_free_right_after_a_skip(void **state)
{
    (void)state;
    advance(2048);
    uint8_t *room = spsc_claim(&ring, RING_BYTES - SPSC_FRAME_ALIGN);
    assert_non_null(room);
    assert_int_equal(offset_of(room), 0);
    memset(room, 'e', RING_BYTES - SPSC_FRAME_ALIGN);
    spsc_commit(&ring, 1, RING_BYTES - SPSC_FRAME_ALIGN);
    assert_int_equal(spsc_used_bytes(&ring), RING_BYTES);
    assert_null(spsc_claim(&ring, 0));
    spsc_publish(&ring);
    assert_int_equal(spsc_pending_bytes(&ring), RING_BYTES); /* never more than there is */
    spsc_validate(&ring);
    expect(1, RING_BYTES - SPSC_FRAME_ALIGN, 'e');
    spsc_release(&ring);
    assert_int_equal(spsc_used_bytes(&ring), 0);
}

static void full_ring_behind_a_skip_keeps_data(void **state)
{
    advance(2048);
    full_ring_returns_null_and_keeps_data(state);
}

static void claim_most_after_a_skip_gives_the_whole_capacity(void **state)
{
    (void)state;
    uint64_t bytes = 0;
    advance(2048);
    uint8_t *room = spsc_claim_most(&ring, 2033, &bytes);
    assert_non_null(room);
    assert_int_equal(offset_of(room), 0);
    assert_int_equal(bytes, RING_BYTES - SPSC_FRAME_ALIGN);
    memset(room, 'q', bytes);
    spsc_commit(&ring, 3, bytes);
    spsc_publish(&ring);
    expect(3, RING_BYTES - SPSC_FRAME_ALIGN, 'q');
    spsc_release(&ring);
    assert_int_equal(spsc_used_bytes(&ring), 0);
}

static void claim_most_looks_again_when_it_may_matter(void **state)
{
    (void)state;
    uint64_t bytes = 0;
    ring.rewind_bytes = RING_BYTES - 16; /* the skip would look anyway */
    advance(2048);
    assert_non_null(spsc_claim_most(&ring, 240, &bytes)); /* eight times its frame is known */
    assert_int_equal(bytes, 2048 - SPSC_FRAME_ALIGN);
    assert_non_null(spsc_claim_most(&ring, 241, &bytes));
    assert_int_equal(bytes, RING_BYTES - SPSC_FRAME_ALIGN);
}

static void skip_is_invisible_until_published(void **state)
{
    (void)state;
    advance(2048);
    put(1, 10, 'a');
    expect_nothing();
    assert_true(spsc_is_empty(&ring));
    put(2, 10, 'b'); /* behind the same skip */
    spsc_validate(&ring);
    spsc_publish(&ring);
    assert_false(spsc_is_empty(&ring));
    expect(1, 10, 'a');
    expect(2, 10, 'b');
    expect_nothing();
}

/* The consumer's copy of the skip words must follow each skip, also when it looked in between. */
static void skip_after_skip_is_followed(void **state)
{
    (void)state;
    for (int i = 0; i < 1000; i++) {
        advance(1024 + 16); /* itself behind a skip, from the second turn on */
        assert_true(spsc_is_empty(&ring));
        assert_int_equal(put(1, 500, i) & ring.mask, 528);
        assert_true(spsc_is_empty(&ring));
        spsc_publish(&ring);
        assert_int_equal(put(2, 1000, i + 1) & ring.mask, 528 + 1024);
        assert_false(spsc_is_empty(&ring));
        expect(1, 500, i);
        spsc_publish(&ring);
        expect(2, 1000, i + 1);
        spsc_release(&ring);
        spsc_validate(&ring);
    }
}

static void skip_works_across_2_to_the_64(void **state)
{
    (void)state;
    /* The ring started 64 bytes before the wrap, so it is far in already and the skip ends at
     * position 0. */
    uint8_t *room = spsc_claim(&ring, 16);
    assert_int_equal(offset_of(room), 0);
    memset(room, 'w', 16);
    assert_int_equal(spsc_commit(&ring, 1, 16), 32);
    spsc_publish(&ring);
    expect(1, 16, 'w');
    spsc_release(&ring);
    spsc_validate(&ring);
}

static void idle_ring_stays_in_its_first_quarter(void **state)
{
    (void)state;
    for (int i = 0; i < 10000; i++) {
        uint8_t *room = spsc_claim(&ring, 40);
        assert_true(offset_of(room) <= RING_BYTES / 4);
        spsc_commit(&ring, 1, 40);
        spsc_publish(&ring);
        assert_non_null(spsc_take(&ring));
        spsc_release(&ring);
    }
    spsc_validate(&ring);
}

static void large_ring_rewinds_at_256_kib(void **state)
{
    (void)state;
    struct spsc large;
    struct err err = {0};
    assert_int_equal(spsc_init(&large, MIB(4), 0, &err), 0);
    assert_int_equal(large.rewind_bytes, KIB(256));
    spsc_close(&large);
    spsc_close(&large); /* closing twice is harmless */
}

/* What a plain queue of frames would know. */
struct mirror {
    uint32_t put_count;
    uint32_t taken_count;
    uint32_t skip_count;
    uint64_t used;  /* of frames not released; a skip is nothing */
    uint64_t taken; /* of those, taken */
};

static uint64_t mix_bytes(uint32_t number)
{
    return ((uint64_t)number * 37) % (number % 16 == 0 ? RING_BYTES - SPSC_FRAME_ALIGN + 1 : 700);
}

static uint64_t mix_frame_bytes(uint32_t number)
{
    return SPSC_FRAME_ALIGN + align_up(mix_bytes(number), SPSC_FRAME_ALIGN);
}

static void mix_put(struct mirror *mirror)
{
    uint64_t bytes = mix_bytes(mirror->put_count);
    uint64_t frame_bytes = mix_frame_bytes(mirror->put_count);
    uint64_t skip_from = ring.skip_from;
    uint8_t *room = spsc_claim(&ring, bytes);
    /* Full when there is no room, and only then: a skip takes none away. */
    assert_int_equal(room != NULL, mirror->used + frame_bytes <= RING_BYTES);
    if (room == NULL) {
        return;
    }
    memset(room, (int)(mirror->put_count & 0xff), bytes);
    spsc_commit(&ring, 1 + mirror->put_count % 5, bytes);
    mirror->put_count++;
    mirror->used += frame_bytes;
    mirror->skip_count += skip_from != ring.skip_from;
}

static void mix_take(struct mirror *mirror)
{
    const struct spsc_frame *frame = spsc_take(&ring);
    if (frame == NULL) {
        return;
    }
    assert_int_equal(frame->type, 1 + mirror->taken_count % 5);
    assert_int_equal(frame->bytes, mix_bytes(mirror->taken_count));
    expect_bytes(frame->payload, frame->bytes, (int)(mirror->taken_count & 0xff));
    mirror->taken += mix_frame_bytes(mirror->taken_count);
    mirror->taken_count++;
}

static void any_mix_of_sizes_comes_out_as_it_went_in(void **state)
{
    (void)state;
    struct mirror mirror = {0};
    uint32_t random = 12345;
    for (int i = 0; i < 100000; i++) {
        random = random * 1664525u + 1013904223u;
        uint32_t choice = random >> 28;
        if (choice < 8) {
            mix_put(&mirror);
        }
        if (choice % 3 == 0) {
            spsc_publish(&ring);
        }
        if (choice >= 6) {
            mix_take(&mirror);
        }
        if (choice % 4 == 1) {
            spsc_release(&ring);
            mirror.used -= mirror.taken;
            mirror.taken = 0;
        }
        if (choice % 5 == 0) {
            assert_int_equal(spsc_used_bytes(&ring), mirror.used);
        }
        spsc_validate(&ring);
    }
    assert_true(mirror.taken_count > 10000);
    assert_true(mirror.skip_count > 1000);
}

/* ---------------------------------------------------------------- failures and program errors */

/* Runs body in a child with its own limits; returns its exit status, or -signal. */
static int in_child(void (*body)(void))
{
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        body();
        _exit(0);
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
}

static void init_fails_with(int resource, rlim_t limit, int code, const char *text)
{
    struct spsc failed;
    struct err err = {0};
    struct rlimit rlimit = {.rlim_cur = limit, .rlim_max = limit};
    signal(SIGXFSZ, SIG_IGN);
    if (setrlimit((__rlimit_resource_t)resource, &rlimit) != 0) {
        _exit(1);
    }
    int r = spsc_init(&failed, MIB(1), 0, &err);
    _exit(r == code && err.code == code && strstr(err.text, text) != NULL ? 0 : 2);
}

static void without_descriptors(void)
{
    init_fails_with(RLIMIT_NOFILE, 0, -EMFILE, "memfd");
}

static void with_small_files(void)
{
    init_fails_with(RLIMIT_FSIZE, 4096, -EFBIG, "size ring memory to 1048576 bytes");
}

static void without_address_space(void)
{
    init_fails_with(RLIMIT_AS, 1 << 20, -ENOMEM, "reserve 2097152 bytes");
}

static void init_failures_name_what_was_missing(void **state)
{
    (void)state;
    assert_int_equal(in_child(without_descriptors), 0);
    assert_int_equal(in_child(with_small_files), 0);
    assert_int_equal(in_child(without_address_space), 0);
}

static void ring_costs_no_descriptor(void **state)
{
    (void)state;
    int before = dup(0);
    close(before);
    struct spsc other;
    struct err err = {0};
    assert_int_equal(spsc_init(&other, RING_BYTES, 0, &err), 0);
    int after = dup(0);
    close(after);
    assert_int_equal(before, after);
    spsc_close(&other);
}

static void commit_without_claim(void)
{
    close(2);
    spsc_commit(&ring, 1, 0);
}

static void commit_more_than_claimed(void)
{
    close(2);
    if (spsc_claim(&ring, 16) != NULL) {
        spsc_commit(&ring, 1, 17);
    }
}

static void skip_to_nowhere(void)
{
    close(2);
    ring.skip_from = 0;
    ring.skip_to = 32;
    spsc_validate(&ring);
}

static void commit_after_refused_claim(void)
{
    close(2);
    if (spsc_claim(&ring, 16) != NULL && spsc_claim(&ring, RING_BYTES) == NULL) {
        spsc_commit(&ring, 1, 16);
    }
}

static void program_errors_abort(void **state)
{
    (void)state;
    assert_int_equal(in_child(commit_without_claim), -SIGABRT);
    assert_int_equal(in_child(commit_more_than_claimed), -SIGABRT);
    assert_int_equal(in_child(skip_to_nowhere), -SIGABRT);
    assert_int_equal(in_child(commit_after_refused_claim), -SIGABRT);
}

#define ON_RING(test)      cmocka_unit_test_setup_teardown(test, open_ring, close_ring)
#define ON_NEAR_WRAP(test) cmocka_unit_test_setup_teardown(test, open_ring_near_wrap, close_ring)

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_RING(committed_frame_is_invisible_until_published),
        ON_RING(publish_without_news_says_so),
        ON_RING(one_publish_shows_every_committed_frame_in_order),
        ON_RING(end_is_the_position_just_after_the_padded_frame),
        ON_RING(payload_is_aligned_for_any_type),
        ON_RING(commit_may_use_less_than_was_claimed),
        ON_RING(abandoned_claim_leaves_no_trace),
        ON_RING(largest_frame_fills_the_ring_exactly),
        ON_RING(claim_beyond_capacity_or_32_bits_returns_null),
        ON_RING(full_ring_returns_null_and_keeps_data),
        ON_RING(room_comes_back_only_with_release),
        ON_RING(release_frees_everything_taken_at_once),
        ON_RING(pending_counts_published_bytes_only),
        ON_RING(frame_across_the_end_of_memory_is_contiguous),
        ON_NEAR_WRAP(positions_pass_2_to_the_64),
        ON_NEAR_WRAP(full_ring_across_2_to_the_64_keeps_data),
        ON_RING(claim_most_gives_all_that_is_free),
        ON_RING(claim_most_refuses_less_than_the_minimum),
        ON_RING(empty_ring_far_in_starts_again_at_the_beginning),
        ON_RING(claim_given_up_after_a_skip_leaves_no_trace),
        ON_RING(near_the_start_there_is_no_skip),
        ON_RING(no_skip_while_anything_is_unpublished_or_unreleased),
        ON_RING(whole_capacity_is_free_right_after_a_skip),
        ON_RING(full_ring_behind_a_skip_keeps_data),
        ON_RING(claim_most_after_a_skip_gives_the_whole_capacity),
        ON_RING(claim_most_looks_again_when_it_may_matter),
        ON_RING(skip_is_invisible_until_published),
        ON_RING(skip_after_skip_is_followed),
        ON_NEAR_WRAP(skip_works_across_2_to_the_64),
        ON_RING(idle_ring_stays_in_its_first_quarter),
        ON_RING(large_ring_rewinds_at_256_kib),
        ON_NEAR_WRAP(any_mix_of_sizes_comes_out_as_it_went_in),
        ON_RING(init_failures_name_what_was_missing),
        ON_RING(ring_costs_no_descriptor),
        ON_RING(program_errors_abort),
    };
    return cmocka_run_group_tests_name("spsc", tests, NULL, NULL);
}
