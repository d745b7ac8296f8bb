/*
 * explore: the two machines and the search of explore.h. One thread, no clock; it fails (ASSERT)
 * only when a program is too large for its tables.
 */
#include "explore.h"

#include <stddef.h>
#include <string.h>

#include "core/base.h"

#define THREADS      EXPLORE_THREADS
#define WORDS        EXPLORE_WORDS
#define SLOTS        EXPLORE_SLOTS
#define MESSAGES_MAX 24 /* stores of one word in one run */
#define BUFFER_MAX   8  /* entries of a store buffer; a full one must drain before the next store */

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

struct state {
    uint8_t locals[THREADS][EXPLORE_LOCALS_BYTES];
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

static const struct explore_program *program; /* of the run at hand */

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
    ASSERT(s->message_count[word] < MESSAGES_MAX);
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

static void weak_read(struct state *s, int t, uint8_t word, uint8_t index, enum explore_order order)
{
    const struct message *message = &s->messages[word][index];
    s->now[t].at[word] = index;
    view_join(&s->taken[t], &s->now[t]);
    view_join(&s->taken[t], &message->view);
    if ((order & ACQUIRE) != 0) {
        view_join(&s->now[t], &message->view);
    }
}

static void weak_write(struct state *s, int t, uint8_t word, uint8_t index,
                       enum explore_order order, uint8_t value, const struct view *chain)
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

static bool is_update_kind(enum explore_kind kind)
{
    return kind == OP_EXCHANGE || kind == OP_UPDATE || kind == OP_ADD || kind == OP_COMPARE;
}

/* What a read-modify-write leaves where it found value. */
static uint8_t updated_value(const struct explore_op *op, uint8_t value)
{
    if (op->kind == OP_EXCHANGE) {
        return op->value;
    }
    if (op->kind == OP_ADD) {
        return (uint8_t)(value + op->value);
    }
    return op->kind == OP_COMPARE && value == op->expected ? op->value : value;
}

/* choice picks the store read, or the place written. Returns false when there is no such choice. */
static bool weak_word(struct state *s, int t, const struct explore_op *op, int choice,
                      uint8_t *result)
{
    int index = s->now[t].at[op->at] + choice;
    if (index >= s->message_count[op->at]) {
        return false;
    }
    bool is_failed_compare =
        op->kind == OP_COMPARE && s->messages[op->at][index].value != op->expected;
    if (op->kind == OP_LOAD || is_failed_compare) {
        *result = s->messages[op->at][index].value;
        weak_read(s, t, op->at, (uint8_t)index, is_failed_compare ? RELAXED : op->order);
        return true;
    }
    bool is_update = is_update_kind(op->kind);
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
               is_update ? updated_value(op, *result) : op->value, is_update ? &chain : NULL);
    return true;
}

/* False: a race. */
static bool weak_data(struct state *s, int t, const struct explore_op *op, uint8_t *result)
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

static bool tso_op(struct state *s, int t, const struct explore_op *op, uint8_t *result)
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
    case OP_ADD:
    case OP_COMPARE:
        if (s->buffer_count[t] != 0) {
            return false;
        }
        *result = s->memory[op->at];
        s->memory[op->at] = updated_value(op, *result);
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
static enum outcome kernel_op(struct state *s, const struct explore_op *op)
{
    if (op->kind == OP_WAIT) {
        return s->signal != 0 ? OUTCOME_MOVED : OUTCOME_NONE;
    }
    s->signal = op->kind == OP_SIGNAL;
    return OUTCOME_MOVED;
}

static enum outcome machine_step(struct state *s, int t, const struct explore_op *op, int choice,
                                 uint8_t *result)
{
    bool is_word = op->kind == OP_LOAD || op->kind == OP_STORE || is_update_kind(op->kind);
    bool is_data = op->kind == OP_DATA_READ || op->kind == OP_DATA_WRITE;
    *result = 0;
    if (op->kind == OP_DONE || (choice > 0 && (program->machine == EXPLORE_TSO || !is_word))) {
        return OUTCOME_NONE;
    }
    if (!is_word && !is_data && op->kind != OP_FENCE) {
        return kernel_op(s, op);
    }
    if (program->machine == EXPLORE_TSO) {
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
    ASSERT(state_count < SEEN_SLOTS / 4 * 3);
    return true;
}

static void visit(const struct state *s)
{
    if (!remember(s)) {
        return;
    }
    ASSERT(stack_count < STACK_MAX);
    stack[stack_count++] = *s;
}

static void start(struct state *s)
{
    memset(s, 0, sizeof *s);
    memcpy(s->locals, program->locals, sizeof s->locals);
    for (int i = 0; i < SLOTS; i++) {
        s->data[i].value = program->data[i];
    }
    for (int t = 0; t < THREADS; t++) {
        s->now[t].clock[t] = 1; /* 0 is "never" */
    }
    for (int w = 0; w < WORDS; w++) {
        s->message_count[w] = 1;
    }
}

/* Every move of one thread out of s. Returns their number, or -1 at a violation. */
static int expand_thread(const struct state *s, int t)
{
    struct explore_op op = program->op_of(s->locals[t], t);
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
        if (!program->after(next.locals[t], t, result)) {
            finding = "wrong bytes";
            return -1;
        }
        moves++;
        visit(&next);
    }
    struct state flushed = *s;
    if (program->machine == EXPLORE_TSO && tso_flush_one(&flushed, t)) {
        moves++;
        visit(&flushed);
    }
    return moves;
}

static bool is_finished(const struct state *s)
{
    for (int t = 0; t < THREADS; t++) {
        if (program->op_of(s->locals[t], t).kind != OP_DONE) {
            return false;
        }
    }
    return true;
}

/* Every move out of s. False: s is a violation. */
static bool expand(const struct state *s)
{
    int moves = 0;
    for (int t = 0; t < THREADS; t++) {
        int moves_of_thread = expand_thread(s, t);
        if (moves_of_thread < 0) {
            return false;
        }
        moves += moves_of_thread;
    }
    if (moves == 0 && !is_finished(s)) {
        finding = "stuck";
        return false;
    }
    return true;
}

void explore(const struct explore_program *what, struct explore_result *result)
{
    static struct state s;
    program = what;
    memset(seen, 0, sizeof seen);
    stack_count = 0;
    state_count = 0;
    finding = NULL;
    start(&s);
    visit(&s);
    bool is_good = true;
    while (is_good && stack_count > 0) { /* bounded: no state is visited twice */
        s = stack[--stack_count];
        is_good = expand(&s);
    }
    ASSERT(is_good == (finding == NULL));
    *result = (struct explore_result){.finding = finding, .state_count = state_count};
}
