// The parts of the target, each with threads of its own that check themselves until the process ends.
#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

struct options {
    int vcpus;
    int spinners;
    bool expects_offsets;
    int64_t offsets[2];
    bool catch_sigurg;
    bool seccomp;
    bool sandbox;
    bool no_run;
    bool paused;
    bool stop_clock;
    bool late_kicks;
    bool undumpable;
    bool stand_in;
    unsigned exit_after_ms;
    unsigned user;
};

extern struct options options;

// Signals of the target's own: counted ones, and such as are waited for. None of libc's.
enum { wait_signal = 40, timed_signal = 41, counted_signal = 42 };

// Starts a thread with all signals blocked but SIGCHLD, which is ignored unless it is blocked.
pthread_t start_thread(void *(*run)(void *), void *argument);

// registers.c: threads that do nothing but hold registers
void start_registers(void);

// waits.c: a thread for each way to wait
void start_waits(void);
void remove_waits(void); // what outlives the process; their threads fail then

// signals.c: signals that are counted. A receiver unblocks them in its own thread.
struct receiver;
struct check;
struct receiver *new_receiver(const char *name, int index);
void begin_receiving(struct receiver *receiver);
void handler_ran(void); // another handler, of the calling thread, which receives
uint64_t handler_runs(const struct receiver *receiver);
void start_signals(void);
bool signals_are_delivered(void); // all that were sent; sends no more

// churn.c: threads and processes created and joined all the while
void start_churn(void);
void pause_churn(bool paused); // returns once none is there

// vcpus.c
void create_vcpus(void);
void start_vcpus(void);
void pause_vcpus(bool paused);
void print_offsets(FILE *to);
void print_clock(FILE *to);
int vm_descriptor(void);

// stand_in.c: what the vCPUs are where there is no KVM. Terminals, whose sizes can be set and read by ioctls as TSC offsets can.
void create_terminals(void);
void print_terminals(FILE *to); // their descriptors
void print_sizes(FILE *to);     // their sizes, as 64-bit numbers

// seccomp.c: forbids the ioctls of the batch, and new executable mappings, in all threads
void forbid_by_seccomp(void);

// seccomp.c: forbids what QEMU's own sandbox forbids, in all threads
void sandbox_by_seccomp(void);
