/*
 * io: what the connection side asks of the kernel, as a handful of operations with completions. It
 * is the private seam of net: server.c and conn*.c speak only these words, io_uring.c answers them,
 * and another backend can stand in later.
 *
 * Owned by the shard's thread, which also created it. Operations are queued and leave with the next
 * io_poll; their events are taken with io_next. Each operation names its target by {index,
 * generation}: an event of an earlier life of a slot is recognised by its generation and dropped by
 * the caller. A multishot operation goes on until an event has is_last.
 *
 * How it fails: an operation never fails when it is queued; what goes wrong arrives as an event
 * with a negative result. A ring that the kernel no longer serves makes io_poll return -errno, and
 * the shard cannot go on.
 */
#ifndef NET_IO_H
#define NET_IO_H

#include "core/base.h"
#include "core/err.h"

struct io;

enum io_op {
    IO_ACCEPT = 1, /* multishot; key.index: listener; result: the new socket */
    IO_RECV, /* multishot; result: bytes at data, 0 at the end of the stream; -ENOBUFS: no buffer */
    IO_SEND, /* result: bytes sent */
    IO_CLOSE, /* the socket is closed and its operations are cancelled */
    IO_WAKE,  /* the watched eventfd became readable */
};

/* The buffers that a receive takes: many of recv_buffer_bytes, or a few that a large request fits
 * into whole, so that it need not be put together first. */
enum io_size {
    IO_SMALL = 0,
    IO_LARGE,
    IO_SIZES,
};

struct io_key {
    uint32_t index;
    uint32_t generation; /* only the low IO_GENERATION_BITS travel */
};

#define IO_GENERATION_BITS 24
#define IO_GENERATION_MASK ((1u << IO_GENERATION_BITS) - 1)

struct io_event {
    enum io_op op;
    struct io_key key;
    int result;
    bool is_last; /* the operation has ended: re-arm it if it is still wanted */
    bool
        has_buffer; /* data is lent until io_buffer_give, which must come before the next io_poll */
    enum io_size size; /* of the buffer */
    uint16_t buffer;
    uint8_t *data;
};

struct io_options {
    uint32_t connections_max;   /* sizes the queues */
    uint32_t recv_buffers;      /* power of two, at most 32768 */
    uint32_t recv_buffer_bytes; /* of each */
};

/* How long an event that is here may wait for others (where the kernel can bound that; else not at
 * all). */
enum io_gathering {
    IO_GATHER_SENDS = 0, /* only for the sends that leave with this wait */
    IO_GATHER_SHORT,     /* events are dense */
    IO_GATHER_LONG,      /* and answers wait for the disk anyway */
};

struct io_counts {
    uint64_t enters;
    uint64_t cq_overflows;
};

/* Creates the ring and its receive buffers, in the thread that will use them. */
int io_open(struct io **io, const struct io_options *options, struct err *err) MUST_USE;
/* Ends every operation (waiting a bounded time for sends that still read the caller's memory) and
 * frees the ring. Sockets stay open: the caller closes them. */
void io_close(struct io *io);

void io_accept(struct io *io, struct io_key key, int fd);
/* is_careful: look for data before looking for a buffer, so that an empty buffer ring is not an
 * immediate -ENOBUFS. */
void io_recv(struct io *io, struct io_key key, int fd, enum io_size size, bool is_careful);
/* Ends the multishot receive of key, armed with size; its last event follows. */
void io_recv_stop(struct io *io, struct io_key key, enum io_size size);
/* data must stay as it is until the event. */
void io_send(struct io *io, struct io_key key, int fd, const uint8_t *data, size_t bytes);
/* Cancels everything of fd, then closes it: the events of cancelled operations come before or after
 * that of the close. */
void io_shut(struct io *io, struct io_key key, int fd);
/* Watches an eventfd; multishot. */
void io_wake(struct io *io, int fd);

/* Submits what is queued and waits at most wait_ns for an event (0: only look), in one system call
 * at most; gathering says how much company the first event may wait for, company_max how much there
 * can be (a hint: who has it wrong waits no longer than gathering says). Returns the number of events
 * for io_next, or -errno when the ring is beyond use. */
int io_poll(struct io *io, uint64_t wait_ns, enum io_gathering gathering,
            uint32_t company_max) MUST_USE;
/* The next event of this pass; false when there is none left. */
bool io_next(struct io *io, struct io_event *event);
void io_buffer_give(struct io *io, const struct io_event *event);
/* True when events wait to be looked at. */
bool io_has_events(const struct io *io);
struct io_counts io_counts(const struct io *io);

#endif
