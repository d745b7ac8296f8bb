/*
 * view_load: the view of a directory as it is found, for tools that read beside a running server (query,
 * export, backup, verify). Reads only: removes nothing, seals nothing, takes no lock. What the archive
 * changes meanwhile is looked for again in its new form.
 */
#ifndef STORE_VIEW_LOAD_H
#define STORE_VIEW_LOAD_H

#include "store/log_view.h"

/* Lists DIR/log and publishes what is there. on_problem (may be NULL) is told of each file that cannot be used
 * (damaged header or footer, unreadable), which is then left out, or shown as not sealed where its batches
 * can still be read. -ENOENT with a text when there is no log. */
int log_views_load(struct log_views *views, struct file_io *io,
                   void (*on_problem)(void *context, const char *line), void *context,
                   struct err *err) MUST_USE;

#endif
