/*
 * The algorithms of core/spsc.c and core/park.c under every interleaving, on two machines:
 *
 *   WEAK  C17's atomics as a view machine (after Kang et al., "A promising semantics for
 * relaxed-memory concurrency", without promises): memory keeps every store of a word; a load may
 * return any that its thread is not yet bound to have passed; release/acquire hand bounds over,
 * seq_cst fences join them in one global bound. A store of a word with several writers may also
 * slip in before newer ones. Frame bytes are plain data, so that an access that is not ordered by
 * happens-before is a data race and counts as a violation: this is how "overwritten while being
 *         read" shows without modelling a load that is delayed beyond a later store (which this
 * machine does not do). TSO   x86: one memory, a first-in first-out store buffer for each thread,
 * read-modify-writes and fences drain it. Release and acquire cost nothing there, so only F1 and F2
 * can be missed; data is compared by content.
 *
 * What is explored is a model: the tables of steps below were written from spsc.c and park.c by
 * hand, one step for each access to shared memory, in the same order and with the same memory
 * orders, and must be changed with them. Two simplifications: one slot stands for the 16 bytes of a
 * frame alignment, and a producer that finds the ring full (or a consumer without a park that finds
 * it empty) waits for a value that helps instead of asking again, since asking again changes
 * nothing but the cached index.
 *
 * A violation is: a data race; a frame whose content is not the next message; or a state in which
 * nobody can move although not everything was delivered (lost message, lost wake-up). Each edge is
 * then broken in turn, and the explorer must find a violation: that is the proof that it can.
 *
 * States are remembered by a 128-bit hash of all their bytes, the usual compaction: the chance that
 * one in a few million is taken for another is below 1e-24.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#define THREADS      3
#define WORDS        4 /* shared atomic words */
#define SLOTS        4
#define MESSAGES_MAX 24 /* stores of one word in one run */
#define BUFFER_MAX   8  /* entries of a store buffer; a full one must drain before the next store */

enum word {
    TAIL = 0, /* of waker 0, or of the ring */
    TAIL_1 = 1,
    HEAD = 2,
    LEVEL = 3,
};

enum machine {
    WEAK,
    TSO,
};

enum order {
    RELAXED = 0,
    ACQUIRE = 1,
    RELEASE = 2,
    ACQ_REL = 3,
};

/* ------------------------------------------------------------------------------------------------
 * state */

/* What a thread is bound to: for each word the oldest store it may still read, for each thread how
 * much of what that one did happened before. */
struct view {
    uint8_t at[WORDS];
    uint8_t clock[THREADS];
};

struct message {
    uint8_t value;
    uint8_t is_update; /* by a read-modify-write: nothing may slip in before it */
    struct view view;
};

struct data_slot {
    uint8_t value;
    uint8_t writer;
    uint8_t written_at;
    uint8_t read_at[THREADS];
};

struct buffered {
    uint8_t is_data;
    uint8_t at;
    uint8_t value;
};

struct locals {
    uint8_t pc;
    uint8_t index; /* within a step that repeats */
    /* Ring: the fields of struct spsc, in slots. */
    uint8_t committed, published, head_cache, claimed_at;
    uint8_t next, tail_cache;
    uint8_t message;   /* the next to send or to expect */
    uint8_t uncounted; /* since the last publish or release */
    uint8_t frame_end;
    /* Park. */
    uint8_t seen[2];
    uint8_t has_found;
    uint8_t level;
};

struct state {
    struct locals locals[THREADS];
    struct data_slot data[SLOTS];
    uint8_t signal; /* the eventfd */
    /* WEAK */
    struct view now[THREADS], taken[THREADS],
        given[THREADS];    /* current; at the next fence in; at the last fence out */
    uint8_t global[WORDS]; /* the bound of seq_cst fences */
    uint8_t message_count[WORDS];
    struct message messages[WORDS][MESSAGES_MAX];
    /* TSO */
    uint8_t memory[WORDS];
    uint8_t buffer_count[THREADS];
    struct buffered buffers[THREADS][BUFFER_MAX];
};

_Static_assert(_Alignof(struct state) == 1,
               "states are compared and hashed as bytes, so they have no padding");

/* ------------------------------------------------------------------------------------------------
 * what is run */

enum op_kind {
    OP_DONE,
    OP_LOAD,
    OP_STORE,
    OP_EXCHANGE,
    OP_UPDATE, /* a read-modify-write that keeps the value */
    OP_FENCE,
    OP_DATA_WRITE,
    OP_DATA_READ,
    OP_SIGNAL,
    OP_WAIT,
    OP_DRAIN,
};

struct op {
    enum op_kind kind;
    enum order order;
    uint8_t at; /* word or slot */
    uint8_t value;
    uint8_t accept_min; /* OP_LOAD: the step waits for at least this value */
};

/* The code as it is, and each way to break it. */
struct recipe {
    const char *name; /* what is explored, or what is broken */
    enum machine machine;
    bool is_ring; /* else the parking protocol */
    /* Edges. */
    bool without_r1, without_a1, without_r2, without_a2, without_f1, without_f2;
    /* Ring; a count of 0 is the usual one (fill_in_defaults). */
    uint8_t capacity, messages, publish_every, release_every, rewind;
    uint8_t sizes[2];                         /* frame sizes in slots, alternating */
    bool overcommits;                         /* takes one slot more than there is */
    bool releases_early;                      /* before reading the last frame taken */
    bool keeps_unpublished, keeps_unreleased; /* a pass that ends without publish, or release */
    bool skips_blindly; /* to the start of memory without looking whether the ring is empty */
    /* Park. */
    uint8_t wakers, publishes; /* how many threads, how often each */
    bool by_updates;           /* the formulation for ThreadSanitizer */
    bool by_bulk; /* the sleeper lies at PARK_BULK once it has seen the first, small, publication */
    bool without_second_look, looks_before_flag, drains_before_wait, withdraws_by_store,
        takes_without_signal;
    bool says_small; /* a waker calls its bulk work small */
};

static struct recipe recipe; /* of the run at hand */

static enum order order_unless(bool is_broken, enum order order)
{
    return is_broken ? RELAXED : order;
}

/* ------------------------------------------------------------------------------------------------
 * WEAK */

static void view_join(struct view *into, const struct view *from)
{
    for (int i = 0; i < WORDS; i++) {
        into->at[i] = into->at[i] > from->at[i] ? into->at[i] : from->at[i];
    }
    for (int i = 0; i < THREADS; i++) {
        into->clock[i] = into->clock[i] > from->clock[i] ? into->clock[i] : from->clock[i];
    }
}

static void shift_view(struct view *view, uint8_t word, uint8_t from)
{
    if (view->at[word] >= from) {
        view->at[word]++;
    }
}

/* Makes room for a store at index: everything that names a later one of that word moves up. */
static struct message *weak_insert(struct state *s, uint8_t word, uint8_t index)
{
    assert_true(s->message_count[word] < MESSAGES_MAX);
    struct message *list = s->messages[word];
    memmove(&list[index + 1], &list[index],
            (size_t)(s->message_count[word] - index) * sizeof *list);
    s->message_count[word]++;
    for (int t = 0; t < THREADS; t++) {
        shift_view(&s->now[t], word, index);
        shift_view(&s->taken[t], word, index);
        shift_view(&s->given[t], word, index);
    }
    for (int w = 0; w < WORDS; w++) {
        for (int m = 0; m < s->message_count[w]; m++) {
            if (w != word || m != index) {
                shift_view(&s->messages[w][m].view, word, index);
            }
        }
    }
    if (s->global[word] >= index) {
        s->global[word]++;
    }
    memset(&list[index], 0, sizeof *list);
    return &list[index];
}

static void weak_read(struct state *s, int t, uint8_t word, uint8_t index, enum order order)
{
    const struct message *message = &s->messages[word][index];
    s->now[t].at[word] = index;
    view_join(&s->taken[t], &s->now[t]);
    view_join(&s->taken[t], &message->view);
    if ((order & ACQUIRE) != 0) {
        view_join(&s->now[t], &message->view);
    }
}

static void weak_write(struct state *s, int t, uint8_t word, uint8_t index, enum order order,
                       uint8_t value, const struct view *chain)
{
    struct message *message = weak_insert(s, word, index);
    message->value = value;
    message->is_update = chain != NULL;
    s->now[t].at[word] = index;
    view_join(&s->taken[t], &s->now[t]);
    message->view = (order & RELEASE) != 0 ? s->now[t] : s->given[t];
    message->view.at[word] = index;
    if (chain != NULL) {
        view_join(&message->view, chain); /* a release sequence goes through read-modify-writes */
        message->view.at[word] = index;
    }
    if ((order & RELEASE) != 0) {
        s->now[t]
            .clock[t]++; /* what this thread does from here on is not covered by that release */
    }
}

static void weak_fence(struct state *s, int t)
{
    view_join(&s->now[t], &s->taken[t]);
    /* The single order of fences bounds what may be read; it does not by itself make a
     * happens-before. */
    for (int i = 0; i < WORDS; i++) {
        uint8_t bound = s->now[t].at[i] > s->global[i] ? s->now[t].at[i] : s->global[i];
        s->now[t].at[i] = bound;
        s->global[i] = bound;
    }
    s->taken[t] = s->now[t];
    s->given[t] = s->now[t];
    s->now[t].clock[t]++;
}

/* choice picks the store read, or the place written. Returns false when there is no such choice. */
static bool weak_word(struct state *s, int t, const struct op *op, int choice, uint8_t *result)
{
    int index = s->now[t].at[op->at] + choice;
    if (op->kind == OP_LOAD) {
        if (index >= s->message_count[op->at]) {
            return false;
        }
        *result = s->messages[op->at][index].value;
        weak_read(s, t, op->at, (uint8_t)index, op->order);
        return true;
    }
    if (index >= s->message_count[op->at]) {
        return false;
    }
    bool is_update = op->kind != OP_STORE;
    const struct view chain = s->messages[op->at][index].view;
    bool is_next_update =
        index + 1 < s->message_count[op->at] && s->messages[op->at][index + 1].is_update;
    if (is_next_update) {
        *result = UINT8_MAX; /* no place just behind index: somebody else's update sits there */
        return true;
    }
    if (is_update) {
        *result = s->messages[op->at][index].value;
        weak_read(s, t, op->at, (uint8_t)index, op->order);
    }
    weak_write(s, t, op->at, (uint8_t)(index + 1), op->order,
               op->kind == OP_UPDATE ? *result : op->value, is_update ? &chain : NULL);
    return true;
}

/* False: a race. */
static bool weak_data(struct state *s, int t, const struct op *op, uint8_t *result)
{
    struct data_slot *slot = &s->data[op->at];
    const struct view *now = &s->now[t];
    if (slot->written_at > now->clock[slot->writer]) {
        return false;
    }
    if (op->kind == OP_DATA_READ) {
        *result = slot->value;
        slot->read_at[t] = now->clock[t];
        return true;
    }
    for (int u = 0; u < THREADS; u++) {
        if (slot->read_at[u] > now->clock[u]) {
            return false;
        }
    }
    *slot =
        (struct data_slot){.value = op->value, .writer = (uint8_t)t, .written_at = now->clock[t]};
    return true;
}

/* ------------------------------------------------------------------------------------------------
 * TSO */

static bool tso_push(struct state *s, int t, bool is_data, uint8_t at, uint8_t value)
{
    if (s->buffer_count[t] == BUFFER_MAX) {
        return false;
    }
    s->buffers[t][s->buffer_count[t]++] = (struct buffered){is_data, at, value};
    return true;
}

static uint8_t tso_read(const struct state *s, int t, bool is_data, uint8_t at)
{
    for (int i = s->buffer_count[t]; i > 0; i--) {
        const struct buffered *entry = &s->buffers[t][i - 1];
        if (entry->is_data == is_data && entry->at == at) {
            return entry->value;
        }
    }
    return is_data ? s->data[at].value : s->memory[at];
}

static bool tso_flush_one(struct state *s, int t)
{
    if (s->buffer_count[t] == 0) {
        return false;
    }
    const struct buffered first = s->buffers[t][0];
    if (first.is_data) {
        s->data[first.at].value = first.value;
    } else {
        s->memory[first.at] = first.value;
    }
    s->buffer_count[t]--;
    memmove(&s->buffers[t][0], &s->buffers[t][1], s->buffer_count[t] * sizeof first);
    memset(&s->buffers[t][s->buffer_count[t]], 0, sizeof first);
    return true;
}

static bool tso_op(struct state *s, int t, const struct op *op, uint8_t *result)
{
    bool is_data = op->kind == OP_DATA_READ || op->kind == OP_DATA_WRITE;
    switch (op->kind) {
    case OP_LOAD:
    case OP_DATA_READ:
        *result = tso_read(s, t, is_data, op->at);
        return true;
    case OP_STORE:
    case OP_DATA_WRITE:
        return tso_push(s, t, is_data, op->at, op->value);
    case OP_EXCHANGE:
    case OP_UPDATE:
        if (s->buffer_count[t] != 0) {
            return false;
        }
        *result = s->memory[op->at];
        if (op->kind == OP_EXCHANGE) {
            s->memory[op->at] = op->value;
        }
        return true;
    case OP_FENCE:
        return s->buffer_count[t] == 0;
    case OP_DONE:
    case OP_SIGNAL:
    case OP_WAIT:
    case OP_DRAIN:
        break;
    }
    return false;
}

/* ------------------------------------------------------------------------------------------------
 * one step of either */

enum outcome {
    OUTCOME_NONE, /* no such choice, or not now */
    OUTCOME_SKIP, /* this choice is not allowed, the next may be */
    OUTCOME_MOVED,
    OUTCOME_VIOLATION,
};

/* A system call orders nothing here, which is less than a kernel gives. On TSO it may also run
 * ahead of the store buffer. */
static enum outcome kernel_op(struct state *s, const struct op *op)
{
    if (op->kind == OP_WAIT) {
        return s->signal != 0 ? OUTCOME_MOVED : OUTCOME_NONE;
    }
    s->signal = op->kind == OP_SIGNAL;
    return OUTCOME_MOVED;
}

static enum outcome machine_step(struct state *s, int t, const struct op *op, int choice,
                                 uint8_t *result)
{
    bool is_word = op->kind == OP_LOAD || op->kind == OP_STORE || op->kind == OP_EXCHANGE ||
                   op->kind == OP_UPDATE;
    bool is_data = op->kind == OP_DATA_READ || op->kind == OP_DATA_WRITE;
    *result = 0;
    if (op->kind == OP_DONE || (choice > 0 && (recipe.machine == TSO || !is_word))) {
        return OUTCOME_NONE;
    }
    if (!is_word && !is_data && op->kind != OP_FENCE) {
        return kernel_op(s, op);
    }
    if (recipe.machine == TSO) {
        if (!tso_op(s, t, op, result)) {
            return OUTCOME_NONE;
        }
    } else if (is_data) {
        return weak_data(s, t, op, result) ? OUTCOME_MOVED : OUTCOME_VIOLATION;
    } else if (op->kind == OP_FENCE) {
        weak_fence(s, t);
    } else if (!weak_word(s, t, op, choice, result)) {
        return OUTCOME_NONE;
    } else if (*result == UINT8_MAX) {
        return OUTCOME_SKIP;
    }
    return op->kind == OP_LOAD && *result < op->accept_min ? OUTCOME_SKIP : OUTCOME_MOVED;
}

/* ------------------------------------------------------------------------------------------------
 * spsc.c as steps */

enum ring_pc {
    P_LOOK, /* claim_start: is the ring empty? */
    P_ROOM, /* spsc_claim: refresh_head, full until it helps */
    P_PAD,
    P_WRITE,
    P_PUBLISH,
    C_TAIL,
    C_READ_PAD_OR_HEADER,
    C_READ,
    C_RELEASE,
    RING_DONE,
};

#define PAD 0x80u /* | where it ends */

static uint8_t size_of(uint8_t message)
{
    return recipe.sizes[message % 2];
}

/* The rest of a claim, once it is known where the frame starts: claim_open, or full, which ends the
 * pass: what was committed is published before room is asked for again. */
static void producer_open(struct locals *p)
{
    uint8_t free_slots =
        (uint8_t)(recipe.capacity + recipe.overcommits - (p->committed - p->head_cache));
    p->index = 0;
    if (free_slots < size_of(p->message)) {
        bool is_pass_over = p->uncounted > 0 && !recipe.keeps_unpublished;
        p->pc = is_pass_over ? P_PUBLISH : P_ROOM;
        return;
    }
    p->pc = p->claimed_at != p->committed ? P_PAD : P_WRITE;
}

static void producer_skip(struct locals *p)
{
    p->claimed_at = (uint8_t)(p->committed + recipe.capacity - p->committed % recipe.capacity);
}

/* spsc_claim up to its first shared access. */
static void producer_claim(struct locals *p)
{
    uint8_t offset = p->committed % recipe.capacity;
    p->claimed_at = p->committed;
    if (p->message == recipe.messages) {
        p->pc = RING_DONE;
        return;
    }
    bool is_candidate =
        recipe.rewind != 0 && offset > recipe.rewind && size_of(p->message) <= offset;
    if (is_candidate && recipe.skips_blindly) {
        producer_skip(p);
        producer_open(p);
        return;
    }
    if (is_candidate && p->published == p->committed) {
        p->pc = P_LOOK;
        return;
    }
    producer_open(p);
}

static void producer_commit(struct locals *p)
{
    p->committed = (uint8_t)(p->claimed_at + size_of(p->message));
    p->message++;
    p->uncounted++;
    if (p->uncounted == recipe.publish_every || p->message == recipe.messages) {
        p->pc = P_PUBLISH;
        return;
    }
    producer_claim(p);
}

static struct op producer_op(const struct locals *p)
{
    enum order a2 = order_unless(recipe.without_a2, ACQUIRE);
    uint8_t value = p->message;
    switch (p->pc) {
    case P_LOOK:
        return (struct op){.kind = OP_LOAD, .at = HEAD, .order = a2};
    case P_ROOM:
        return (struct op){.kind = OP_LOAD,
                           .at = HEAD,
                           .order = a2,
                           .accept_min = (uint8_t)(p->committed + size_of(p->message) -
                                                   recipe.capacity - recipe.overcommits)};
    case P_PAD:
        return (struct op){.kind = OP_DATA_WRITE,
                           .at = p->committed % recipe.capacity,
                           .value = (uint8_t)(PAD | p->claimed_at)};
    case P_WRITE:
        return (struct op){.kind = OP_DATA_WRITE,
                           .at = (uint8_t)(p->claimed_at + p->index) % recipe.capacity,
                           .value = (uint8_t)(value + 1)};
    case P_PUBLISH:
        return (struct op){.kind = OP_STORE,
                           .at = TAIL,
                           .order = order_unless(recipe.without_r1, RELEASE),
                           .value = p->committed};
    default:
        return (struct op){.kind = OP_DONE};
    }
}

static void producer_after(struct locals *p, uint8_t result)
{
    switch (p->pc) {
    case P_LOOK:
        p->head_cache = result;
        if (result == p->committed) {
            producer_skip(p);
        }
        producer_open(p);
        return;
    case P_ROOM:
        p->head_cache = result;
        p->pc = p->claimed_at != p->committed ? P_PAD : P_WRITE;
        return;
    case P_PAD:
        p->pc = P_WRITE;
        return;
    case P_WRITE:
        p->index++;
        if (p->index == size_of(p->message)) {
            producer_commit(p);
        }
        return;
    case P_PUBLISH:
        p->published = p->committed;
        p->uncounted = 0;
        producer_claim(p);
        return;
    default:
        return;
    }
}

/* spsc_take up to its first shared access. Nothing left ends the pass: what was taken is released
 * before more is waited for. */
static void consumer_take(struct locals *c)
{
    c->index = 0;
    if (c->message == recipe.messages) {
        c->pc = RING_DONE;
        return;
    }
    if (c->next != c->tail_cache) {
        c->pc = C_READ_PAD_OR_HEADER;
        return;
    }
    bool is_pass_over = c->uncounted > 0 && !recipe.keeps_unreleased;
    c->pc = is_pass_over ? C_RELEASE : C_TAIL;
}

static void consumer_taken(struct locals *c)
{
    c->next = c->frame_end;
    c->message++;
    c->uncounted++;
    if (c->uncounted == recipe.release_every || c->message == recipe.messages) {
        c->pc = C_RELEASE;
        return;
    }
    consumer_take(c);
}

static struct op consumer_op(const struct locals *c)
{
    switch (c->pc) {
    case C_TAIL:
        return (struct op){.kind = OP_LOAD,
                           .at = TAIL,
                           .order = order_unless(recipe.without_a1, ACQUIRE),
                           .accept_min = (uint8_t)(c->next + 1)};
    case C_READ_PAD_OR_HEADER:
        return (struct op){.kind = OP_DATA_READ, .at = c->next % recipe.capacity};
    case C_READ:
        return (struct op){.kind = OP_DATA_READ,
                           .at = (uint8_t)(c->next + c->index) % recipe.capacity};
    case C_RELEASE: {
        uint8_t head = c->next;
        if (recipe.releases_early && c->message < recipe.messages) {
            head = (uint8_t)(head + size_of(c->message));
        }
        return (struct op){.kind = OP_STORE,
                           .at = HEAD,
                           .order = order_unless(recipe.without_r2, RELEASE),
                           .value = head};
    }
    default:
        return (struct op){.kind = OP_DONE};
    }
}

/* False: the bytes are not the next message. */
static bool consumer_after(struct locals *c, uint8_t result)
{
    switch (c->pc) {
    case C_TAIL:
        c->tail_cache = result;
        c->pc = C_READ_PAD_OR_HEADER;
        return true;
    case C_READ_PAD_OR_HEADER:
        if ((result & PAD) != 0) {
            c->next = (uint8_t)(result & ~PAD);
            return c->next != c->tail_cache; /* ASSERT in spsc_take */
        }
        c->pc = C_READ;
        c->index = 0;
        /* fall through: this was the header, the first slot of the frame */
        __attribute__((fallthrough));
    case C_READ:
        if (result != c->message + 1) {
            return false;
        }
        c->index++;
        c->frame_end = (uint8_t)(c->next + size_of(c->message));
        if (c->index == size_of(c->message)) {
            consumer_taken(c);
        }
        return true;
    case C_RELEASE:
        c->uncounted = 0;
        consumer_take(c);
        return true;
    default:
        return true;
    }
}

/* ------------------------------------------------------------------------------------------------
 * park.c as steps */

/* The sleeper is a duty: take from every ring; when nothing is left, park_prepare, look once more,
 * wait, park_drain, park_cancel, again from the top. A ring is reduced to its tail: how much was
 * published. */
enum park_pc {
    S_TAKE,
    S_ANNOUNCE,
    S_F1,
    S_LOOK,
    S_WAIT,
    S_DRAIN,
    S_WITHDRAW,
    W_PUBLISH,
    W_F2,
    W_LOOK,
    W_EXCHANGE,
    W_SIGNAL,
    PARK_DONE,
};

enum {
    AWAKE = 0,
    ANY = 1,
    BULK = 2,
};

static bool sleeper_has_all(const struct locals *l)
{
    for (int w = 0; w < recipe.wakers; w++) {
        if (l->seen[w] != recipe.publishes) {
            return false;
        }
    }
    return true;
}

/* Is this much published worth staying awake for? At BULK, only when the large work has come. */
static bool sleeper_wants(const struct locals *l, uint8_t waker, uint8_t tail)
{
    bool has_news = tail > l->seen[waker];
    return has_news && (l->level != BULK || tail == recipe.publishes);
}

static struct op sleeper_op(const struct locals *l)
{
    enum op_kind flag_op = recipe.by_updates ? OP_EXCHANGE : OP_STORE;
    switch (l->pc) {
    case S_TAKE:
    case S_LOOK:
        return (struct op){.kind = OP_LOAD,
                           .at = (uint8_t)(TAIL + l->index),
                           .order = order_unless(recipe.without_a1, ACQUIRE)};
    case S_ANNOUNCE:
        return (struct op){.kind = flag_op,
                           .at = LEVEL,
                           .order = recipe.by_updates ? order_unless(recipe.without_f1, ACQ_REL)
                                                      : RELAXED,
                           .value = l->level};
    case S_F1:
        return (struct op){.kind = OP_FENCE};
    case S_WAIT:
        return (struct op){.kind = OP_WAIT};
    case S_DRAIN:
        return (struct op){.kind = OP_DRAIN};
    case S_WITHDRAW:
        return (struct op){.kind = recipe.withdraws_by_store ? OP_STORE : flag_op,
                           .at = LEVEL,
                           .order = recipe.by_updates ? ACQ_REL : RELAXED,
                           .value = AWAKE};
    default:
        return (struct op){.kind = OP_DONE};
    }
}

static void sleeper_announce(struct locals *l)
{
    l->level = recipe.by_bulk && l->seen[0] > 0 ? BULK : ANY;
    l->pc = S_ANNOUNCE;
    l->index = 0;
    l->has_found = 0;
}

static void sleeper_lie_down(struct locals *l)
{
    if (l->has_found) {
        l->pc = S_WITHDRAW;
    } else {
        l->pc = recipe.drains_before_wait ? S_DRAIN : S_WAIT;
    }
}

static void sleeper_after_flag(struct locals *l)
{
    if (recipe.without_second_look || recipe.looks_before_flag) {
        sleeper_lie_down(l);
        return;
    }
    l->pc = S_LOOK;
}

static void sleeper_after(struct locals *l, uint8_t result)
{
    switch (l->pc) {
    case S_TAKE:
        l->seen[l->index] = result;
        l->index++;
        if (l->index == recipe.wakers) {
            l->index = 0;
            sleeper_announce(l);
            l->pc =
                sleeper_has_all(l) ? PARK_DONE : (recipe.looks_before_flag ? S_LOOK : S_ANNOUNCE);
        }
        return;
    case S_ANNOUNCE:
        if (recipe.by_updates || recipe.without_f1) {
            sleeper_after_flag(l);
            return;
        }
        l->pc = S_F1;
        return;
    case S_F1:
        sleeper_after_flag(l);
        return;
    case S_LOOK:
        l->has_found |= sleeper_wants(l, l->index, result);
        l->index++;
        if (l->index == recipe.wakers) {
            l->index = 0;
            if (recipe.looks_before_flag && !l->has_found) {
                l->pc = S_ANNOUNCE;
                return;
            }
            sleeper_lie_down(l);
        }
        return;
    case S_WAIT:
        l->pc = recipe.drains_before_wait ? S_WITHDRAW : S_DRAIN;
        return;
    case S_DRAIN:
        l->pc = recipe.drains_before_wait ? S_WAIT : S_WITHDRAW;
        return;
    case S_WITHDRAW:
        l->index = 0;
        l->pc = S_TAKE;
        return;
    default:
        return;
    }
}

static struct op waker_op(const struct locals *l, int t)
{
    switch (l->pc) {
    case W_PUBLISH:
        return (struct op){.kind = OP_STORE,
                           .at = (uint8_t)(TAIL + t - 1),
                           .order = order_unless(recipe.without_r1, RELEASE),
                           .value = (uint8_t)(l->message + 1)};
    case W_F2:
        return (struct op){.kind = OP_FENCE};
    case W_LOOK:
        return (struct op){.kind = recipe.by_updates && !recipe.without_f2 ? OP_UPDATE : OP_LOAD,
                           .at = LEVEL,
                           .order = recipe.by_updates && !recipe.without_f2 ? ACQ_REL : RELAXED};
    case W_EXCHANGE:
        return (struct op){.kind = OP_EXCHANGE, .at = LEVEL, .order = RELAXED, .value = AWAKE};
    case W_SIGNAL:
        return (struct op){.kind = OP_SIGNAL};
    default:
        return (struct op){.kind = OP_DONE};
    }
}

static void waker_next(struct locals *l)
{
    l->message++;
    l->pc = l->message == recipe.publishes ? PARK_DONE : W_PUBLISH;
}

static void waker_after(struct locals *l, uint8_t result)
{
    bool is_bulk = l->message + 1 == recipe.publishes && !recipe.says_small;
    switch (l->pc) {
    case W_PUBLISH:
        l->pc = recipe.by_updates || recipe.without_f2 ? W_LOOK : W_F2;
        return;
    case W_F2:
        l->pc = W_LOOK;
        return;
    case W_LOOK:
        if (result == AWAKE || (result == BULK && !is_bulk)) {
            waker_next(l);
            return;
        }
        l->pc = W_EXCHANGE;
        return;
    case W_EXCHANGE:
        if (result == AWAKE || recipe.takes_without_signal) {
            waker_next(l);
            return;
        }
        l->pc = W_SIGNAL;
        return;
    case W_SIGNAL:
        waker_next(l);
        return;
    default:
        return;
    }
}

/* ------------------------------------------------------------------------------------------------
 * explorer */

#define SEEN_SLOTS (1u << 21)
#define STACK_MAX  65536u

static uint64_t seen[SEEN_SLOTS][2];
static struct state stack[STACK_MAX];
static uint32_t stack_count;
static const char *finding; /* why the last run failed */
static uint32_t state_count;

static uint64_t mix(uint64_t h)
{
    h ^= h >> 32;
    h *= 0xd6e8feb86659fd93u;
    h ^= h >> 32;
    return h * 0xd6e8feb86659fd93u;
}

/* True the first time. */
static bool remember(const struct state *s)
{
    uint64_t a = 1;
    uint64_t b = 2;
    const uint8_t *bytes = (const uint8_t *)s;
    for (size_t i = 0; i < sizeof *s; i += 8) {
        uint64_t word = 0;
        memcpy(&word, bytes + i, sizeof *s - i < 8 ? sizeof *s - i : 8);
        a = mix(a ^ word);
        b = mix(b + word * 0x9e3779b97f4a7c15u);
    }
    uint32_t slot = (uint32_t)a & (SEEN_SLOTS - 1);
    while (seen[slot][0] != 0) {
        if (seen[slot][0] == (a | 1) && seen[slot][1] == b) {
            return false;
        }
        slot = (slot + 1) & (SEEN_SLOTS - 1);
    }
    seen[slot][0] = a | 1;
    seen[slot][1] = b;
    state_count++;
    assert_true(state_count < SEEN_SLOTS / 4 * 3);
    return true;
}

static void visit(const struct state *s)
{
    if (!remember(s)) {
        return;
    }
    assert_true(stack_count < STACK_MAX);
    stack[stack_count++] = *s;
}

static struct op op_of(const struct state *s, int t)
{
    const struct locals *l = &s->locals[t];
    if (recipe.is_ring) {
        return t == 0 ? producer_op(l) : t == 1 ? consumer_op(l) : (struct op){.kind = OP_DONE};
    }
    return t == 0 ? sleeper_op(l) : waker_op(l, t);
}

static bool advance(struct state *s, int t, uint8_t result)
{
    struct locals *l = &s->locals[t];
    if (recipe.is_ring && t == 0) {
        producer_after(l, result);
    } else if (recipe.is_ring) {
        return consumer_after(l, result);
    } else if (t == 0) {
        sleeper_after(l, result);
    } else {
        waker_after(l, result);
    }
    return true;
}

static void start(struct state *s)
{
    memset(s, 0, sizeof *s);
    for (int t = 0; t < THREADS; t++) {
        s->now[t].clock[t] = 1; /* 0 is "never" */
        s->locals[t].pc = recipe.is_ring ? RING_DONE : PARK_DONE;
    }
    for (int w = 0; w < WORDS; w++) {
        s->message_count[w] = 1;
    }
    if (recipe.is_ring) {
        producer_claim(&s->locals[0]);
        consumer_take(&s->locals[1]);
        return;
    }
    s->locals[0].pc = S_TAKE;
    for (int w = 1; w <= recipe.wakers; w++) {
        s->locals[w].pc = W_PUBLISH;
    }
}

/* Every move of one thread out of s. Returns their number, or -1 at a violation. */
static int expand_thread(const struct state *s, int t)
{
    struct op op = op_of(s, t);
    int moves = 0;
    for (int choice = 0; choice < MESSAGES_MAX; choice++) {
        struct state next = *s;
        uint8_t result = 0;
        enum outcome outcome = machine_step(&next, t, &op, choice, &result);
        if (outcome == OUTCOME_NONE) {
            break;
        }
        if (outcome == OUTCOME_SKIP) {
            continue;
        }
        if (outcome == OUTCOME_VIOLATION) {
            finding = "data race";
            return -1;
        }
        if (!advance(&next, t, result)) {
            finding = "wrong bytes";
            return -1;
        }
        moves++;
        visit(&next);
    }
    struct state flushed = *s;
    if (recipe.machine == TSO && tso_flush_one(&flushed, t)) {
        moves++;
        visit(&flushed);
    }
    return moves;
}

static bool is_finished(const struct state *s)
{
    for (int t = 0; t < THREADS; t++) {
        if (op_of(s, t).kind != OP_DONE) {
            return false;
        }
    }
    return true;
}

static void set_unless_given(uint8_t *field, uint8_t value)
{
    if (*field == 0) {
        *field = value;
    }
}

/* Frames of one and two slots in turn on four slots, so that the ring wraps twice and is full and
 * empty on the way; one waker that publishes twice, so that there is a sleep after a wake. */
static void fill_in_defaults(struct recipe *r)
{
    set_unless_given(&r->capacity, 4);
    set_unless_given(&r->messages, 6);
    set_unless_given(&r->publish_every, 1);
    set_unless_given(&r->release_every, 1);
    set_unless_given(&r->sizes[0], 1);
    set_unless_given(&r->sizes[1], 2);
    set_unless_given(&r->wakers, 1);
    set_unless_given(&r->publishes, 2);
    assert_true(r->capacity <= SLOTS);
}

/* True when no reachable state is a violation. */
static bool holds(struct recipe r)
{
    static struct state s;
    fill_in_defaults(&r);
    recipe = r;
    memset(seen, 0, sizeof seen);
    stack_count = 0;
    state_count = 0;
    start(&s);
    visit(&s);
    while (stack_count > 0) {
        s = stack[--stack_count];
        int moves = 0;
        for (int t = 0; t < THREADS; t++) {
            int r_moves = expand_thread(&s, t);
            if (r_moves < 0) {
                return false;
            }
            moves += r_moves;
        }
        if (moves == 0 && !is_finished(&s)) {
            finding = recipe.is_ring ? "stuck" : "sleeps for ever";
            return false;
        }
    }
    return true;
}

/* ------------------------------------------------------------------------------------------------
 * promises */

#define RING(...) ((struct recipe){.is_ring = true, __VA_ARGS__})
#define PARK(...) ((struct recipe){.is_ring = false, __VA_ARGS__})

static void expect_to_hold(const struct recipe *recipes, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        bool is_good = holds(recipes[i]);
        print_message("  holds   %8u states  %s\n", state_count, recipes[i].name);
        if (!is_good) {
            fail_msg("%s: %s", recipes[i].name, finding);
        }
    }
}

static void expect_violation(const struct recipe *recipes, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        bool is_good = holds(recipes[i]);
        if (is_good) {
            fail_msg("not noticed: %s", recipes[i].name);
        }
        print_message("  broken  %8u states  %s: %s\n", state_count, recipes[i].name, finding);
    }
}

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static void ring_loses_and_overwrites_nothing(void **state)
{
    (void)state;
    const struct recipe recipes[] = {
        RING(.name = "ring, weak, publish and release each"),
        RING(.name = "ring, weak, publish every 2", .publish_every = 2),
        RING(.name = "ring, weak, release every 2", .release_every = 2),
        RING(.name = "ring, weak, equal frames that fill it", .sizes = {1, 1}, .messages = 8),
        RING(.name = "ring, weak, frames of 3 on 4 slots", .sizes = {3, 3}, .messages = 4),
        RING(.name = "ring, weak, skip to the start", .rewind = 1, .messages = 7),
        RING(.name = "ring, weak, skip, small frames", .rewind = 1, .sizes = {1, 1}, .messages = 8),
        RING(.name = "ring, weak, skip, publish 2 release 2", .rewind = 1, .publish_every = 2,
             .release_every = 2, .messages = 8),
        RING(.name = "ring, x86", .machine = TSO),
        RING(.name = "ring, x86, publish 2 release 2, skip", .machine = TSO, .rewind = 1,
             .publish_every = 2, .release_every = 2),
    };
    expect_to_hold(recipes, COUNT(recipes));
}

static void each_broken_ring_edge_is_noticed(void **state)
{
    (void)state;
    const struct recipe recipes[] = {
        RING(.name = "R1 relaxed", .without_r1 = true),
        RING(.name = "A1 relaxed", .without_a1 = true),
        RING(.name = "R2 relaxed", .without_r2 = true),
        RING(.name = "A2 relaxed", .without_a2 = true),
        RING(.name = "R2 relaxed, with skip", .without_r2 = true, .rewind = 1, .messages = 7),
        RING(.name = "A2 relaxed, with skip", .without_a2 = true, .rewind = 1, .messages = 7),
        RING(.name = "one slot too many", .overcommits = true),
        RING(.name = "one slot too many, x86", .overcommits = true, .machine = TSO),
        RING(.name = "release before the read", .releases_early = true),
        RING(.name = "release before the read, x86", .releases_early = true, .machine = TSO),
        RING(.name = "full, and nothing published", .publish_every = 8, .keeps_unpublished = true),
        RING(.name = "empty, and nothing released", .release_every = 8, .keeps_unreleased = true),
        RING(.name = "skip without looking", .rewind = 1, .skips_blindly = true),
        RING(.name = "skip without looking, x86", .rewind = 1, .skips_blindly = true,
             .machine = TSO),
    };
    expect_violation(recipes, COUNT(recipes));
}

/* Why the weak machine is needed: on x86 the hardware gives these four edges away. (The compiler
 * does not.) */
static void x86_alone_would_not_notice_r1_a1_r2_a2(void **state)
{
    (void)state;
    const struct recipe recipes[] = {
        RING(.name = "x86, R1 A1 R2 A2 relaxed", .machine = TSO, .without_r1 = true,
             .without_a1 = true, .without_r2 = true, .without_a2 = true),
    };
    expect_to_hold(recipes, COUNT(recipes));
}

static void no_wake_up_is_lost(void **state)
{
    (void)state;
    const struct recipe recipes[] = {
        PARK(.name = "park, weak, 1 waker, 1 publication", .publishes = 1),
        PARK(.name = "park, weak, 1 waker, 2 publications"),
        PARK(.name = "park, weak, 1 waker, 3 publications", .publishes = 3),
        PARK(.name = "park, weak, 2 wakers, 1 publication each", .wakers = 2, .publishes = 1),
        PARK(.name = "park, weak, small work, then bulk", .by_bulk = true),
        PARK(.name = "park, weak, small, small, bulk", .by_bulk = true, .publishes = 3),
        PARK(.name = "park, x86, 1 waker, 3 publications", .machine = TSO, .publishes = 3),
        PARK(.name = "park, x86, 2 wakers, 2 publications each", .machine = TSO, .wakers = 2),
        PARK(.name = "park, x86, small, small, bulk", .machine = TSO, .by_bulk = true,
             .publishes = 3),
    };
    expect_to_hold(recipes, COUNT(recipes));
}

static void the_formulation_for_tsan_loses_none_either(void **state)
{
    (void)state;
    const struct recipe recipes[] = {
        PARK(.name = "updates, weak, 1 waker, 3 publications", .by_updates = true, .publishes = 3),
        PARK(.name = "updates, weak, 2 wakers, 1 publication each", .by_updates = true, .wakers = 2,
             .publishes = 1),
        PARK(.name = "updates, weak, small, small, bulk", .by_updates = true, .by_bulk = true,
             .publishes = 3),
        PARK(.name = "updates, x86, 2 wakers", .by_updates = true, .wakers = 2, .machine = TSO),
    };
    expect_to_hold(recipes, COUNT(recipes));
}

static void each_broken_park_edge_is_noticed(void **state)
{
    (void)state;
    const struct recipe recipes[] = {
        PARK(.name = "no F1", .without_f1 = true),
        PARK(.name = "no F2", .without_f2 = true),
        PARK(.name = "no F1, x86", .without_f1 = true, .machine = TSO),
        PARK(.name = "no F2, x86", .without_f2 = true, .machine = TSO),
        PARK(.name = "no F1, bulk", .without_f1 = true, .by_bulk = true),
        PARK(.name = "no F2, bulk", .without_f2 = true, .by_bulk = true),
        PARK(.name = "updates, announcement relaxed", .by_updates = true, .without_f1 = true),
        PARK(.name = "updates, waker only loads", .by_updates = true, .without_f2 = true),
        PARK(.name = "updates, withdrawal is a plain store", .by_updates = true,
             .withdraws_by_store = true, .publishes = 3),
        PARK(.name = "no second look", .without_second_look = true),
        PARK(.name = "no second look, x86", .without_second_look = true, .machine = TSO),
        PARK(.name = "look, then flag", .looks_before_flag = true),
        PARK(.name = "look, then flag, x86", .looks_before_flag = true, .machine = TSO),
        PARK(.name = "drain between look and wait", .drains_before_wait = true),
        PARK(.name = "flag taken, nobody woken", .takes_without_signal = true),
        PARK(.name = "bulk work announced as small", .by_bulk = true, .says_small = true),
    };
    expect_violation(recipes, COUNT(recipes));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ring_loses_and_overwrites_nothing),
        cmocka_unit_test(each_broken_ring_edge_is_noticed),
        cmocka_unit_test(x86_alone_would_not_notice_r1_a1_r2_a2),
        cmocka_unit_test(no_wake_up_is_lost),
        cmocka_unit_test(the_formulation_for_tsan_loses_none_either),
        cmocka_unit_test(each_broken_park_edge_is_noticed),
    };
    return cmocka_run_group_tests_name("spsc_model", tests, NULL, NULL);
}
