/*
 * transport_file: one file sink behind transport.h: a thread of its own that writes, because a slow disk may hold only its
 * own sink, and the plan of where the next batch goes. Every call is the transport's owner's; between it and the thread is
 * a mailbox under a mutex (a file sink is not the data path). At most sink->connections batches are under way.
 *
 * The plan: batches follow each other in one file until rotate_bytes or rotate_age; then the next one begins a file (the
 * first to be written rotates the old one away). What fails stays a gap of zeroes until its repeat succeeds; a repeat
 * never moves. Somebody moved or truncated the file: see sink_file.h.
 */
#ifndef FORWARD_TRANSPORT_FILE_H
#define FORWARD_TRANSPORT_FILE_H

#include "core/base.h"
#include "core/err.h"
#include "forward/transport.h"

struct transport_file;

/* wake: called by the thread after each answer. */
int transport_file_open(struct transport_file **file, const struct config_sink *sink,
                        void (*wake)(void *context), void *context, struct err *err) MUST_USE;
/* Waits for the write under way. NULL is fine. */
void transport_file_close(struct transport_file *file);
/* As transport_send. -EINVAL: request->target is none, or not for a body of this size. */
int transport_file_send(struct transport_file *file, const struct transport_request *request,
                        struct err *err) MUST_USE;
/* Hands over what is answered. True: something was. */
bool transport_file_run(struct transport_file *file);
/* As transport_target, _known and _drop. */
int transport_file_target(struct transport_file *file, uint64_t body_bytes, int64_t now_ns,
                          char *out, struct err *err) MUST_USE;
void transport_file_known(struct transport_file *file, const char *text);
void transport_file_drop(struct transport_file *file, const char *text);

#endif
