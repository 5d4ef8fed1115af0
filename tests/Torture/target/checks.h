// What is checked, how often it held, and what did not.
#pragma once

#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

struct check {
    char name[40];
    _Atomic bool idle; // for now it has nothing to do
    _Atomic uint64_t iterations, deviations;
    _Atomic uint64_t late; // right, but much later than asked for
    uint64_t watched; // the iterations when it was last looked at, and for how long it was found so
    unsigned looks;
    char first[300]; // the first deviation
};

// Adds a check. Before the threads start.
__attribute__((format(printf, 1, 2))) struct check *new_check(const char *name, ...);

// It held once more.
void held(struct check *check);

// It did not: counted, and printed at once. May be called by signal handlers.
__attribute__((format(printf, 2, 3))) void deviation(struct check *check, const char *what, ...);

// Looks for checks that make no progress: a thread that was lost. Called once a second; it counts its own calls, because all of this
// machine may stand still for a while.
void find_stalled(void);

// From now on nothing counts any more: the process ends.
void end_checks(void);

uint64_t total_deviations(void);

// Writes all checks as one line of JSON.
void print_checks(FILE *to);

uint64_t now_ns(void);
void sleep_ms(unsigned milliseconds);

// Ends the process: it could not do its work. errno says why.
__attribute__((noreturn)) void die(const char *what);

// A thread's signal mask, alternate stack and pending signals, to be found again as they were.
struct signal_state {
    uint64_t mask;
    stack_t stack;
};

void signal_state_init(struct signal_state *state);
void check_signal_state(const struct signal_state *state, struct check *check);
