#include "api/pending.h"

#include "core/mem.h"

#include <string.h>

void pending_init(struct pending_queue *queue, uint64_t capacity)
{
    ASSERT(is_power_of_two(capacity));
    memset(queue, 0, sizeof *queue);
    queue->items = mem_map(capacity * sizeof *queue->items);
    ASSERT(queue->items != NULL);
    queue->capacity = capacity;
}

void pending_close(struct pending_queue *queue)
{
    mem_unmap(queue->items, queue->capacity * sizeof *queue->items);
    queue->items = NULL;
}

static struct pending *pending_at(struct pending_queue *queue, uint64_t position)
{
    return &queue->items[position & (queue->capacity - 1)];
}

struct pending *pending_push(struct pending_queue *queue, uint32_t record_count)
{
    ASSERT(!pending_is_full(queue));
    /* An empty queue starts over, so that the working set stays as small as the load. */
    if (queue->head == queue->tail) {
        queue->head = queue->tail = queue->outcome = 0;
    }
    struct pending *pending = pending_at(queue, queue->tail++);
    pending->record_count = record_count;
    queue->record_count += record_count;
    return pending;
}

struct pending *pending_newest(struct pending_queue *queue)
{
    ASSERT(!pending_is_empty(queue));
    return pending_at(queue, queue->tail - 1);
}

struct pending *pending_oldest(struct pending_queue *queue)
{
    ASSERT(!pending_is_empty(queue));
    return pending_at(queue, queue->head);
}

void pending_pop(struct pending_queue *queue)
{
    ASSERT(!pending_is_empty(queue));
    queue->record_count -= pending_at(queue, queue->head)->record_count;
    queue->head++;
    if (queue->outcome < queue->head) {
        queue->outcome = queue->head;
    }
}

struct pending *pending_find(struct pending_queue *queue, uint64_t end)
{
    /* Bounded by the queue's length; each entry is passed once, because outcomes come in ring
     * order. */
    while (queue->outcome < queue->tail) {
        struct pending *pending = pending_at(queue, queue->outcome);
        if (pending->end == end) {
            return pending;
        }
        if ((int64_t)(pending->end - end) > 0) {
            return NULL;
        }
        queue->outcome++;
    }
    return NULL;
}
