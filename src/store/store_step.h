/*
 * store_step: the store without threads, for simulation: one duty pass at a time, in whatever order
 * the caller's seed says. store_stop, then steps until the writer returns 1, is an orderly stop;
 * store_close without it is a kill.
 */
#ifndef STORE_STORE_STEP_H
#define STORE_STORE_STEP_H

#include "store/store.h"

/* store_open, and the writer's side of io started in this thread. store_start must not be called.
 */
int store_open_single(struct store **store, const struct store_options *options, struct file_io *io,
                      struct recovery_report *report, struct err *err) MUST_USE;
/* One pass; ends in io's wait (which the simulator answers at once or by moving its clock). 0, or 1
 * once stopped. */
int store_step_writer(struct store *store);
int store_step_keeper(struct store *store);
/* One step of the archive: 1: did something; 0: nothing to do now. */
int store_step_archive(struct store *store);

#endif
