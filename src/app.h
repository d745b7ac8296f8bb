/*
 * app: the composition. The only place, with main.c, that knows every room: opens the store, starts
 * the agents in order, runs the main thread's loop (signals, log lines, the continuous ledger
 * check, reload) and stops everything in order.
 *
 * Start: configuration -> store (lock, recovery) -> writer and keeper -> shards -> "ready".
 * Stop:  shards stop accepting and answer what is in flight -> writer makes it durable and writes
 * its closing mark -> files, lock.
 */
#ifndef APP_H
#define APP_H

#include "core/config.h"
#include "core/err.h"

/* Serves until SIGTERM or SIGINT; SIGHUP re-reads sources. Returns the exit code: 0 orderly stop, 1
 * failed (logged). */
int app_serve(const struct config *config, const struct config_sources *sources) MUST_USE;

#endif
