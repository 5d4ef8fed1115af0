// Threads as the VMMs have them, which wait for each other in futexes, as Rust's channels, barriers and parked threads do.
#pragma once
#include <stdatomic.h>
#include <stdint.h>
#include <sys/types.h>

// Counts what was sent and not yet received.
struct channel {
    _Atomic uint32_t waiting;
};

void send_to(struct channel *channel);
void receive_from(struct channel *channel);

void wait_while(_Atomic uint32_t *word, uint32_t value); // also ends when a signal came
void wake_all(_Atomic uint32_t *word);
void sleep_ms(int milliseconds);

_Atomic pid_t *start_thread(const char *name, void *(*run)(void *), void *argument); // its id, once it runs
void name_thread(const char *name);
void signal_thread(pid_t thread, int signal); // by tkill, which is all that Firecracker's filter lets through
void handle_signal(int signal, void (*handler)(int));
