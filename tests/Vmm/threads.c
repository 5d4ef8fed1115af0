#define _GNU_SOURCE
#include "threads.h"

#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "vm.h"

void wait_while(_Atomic uint32_t *word, uint32_t value)
{
    syscall(SYS_futex, word, FUTEX_WAIT_BITSET_PRIVATE, value, NULL, NULL, FUTEX_BITSET_MATCH_ANY);
}

void wake_all(_Atomic uint32_t *word)
{
    syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, INT32_MAX, NULL, NULL, 0);
}

void send_to(struct channel *channel)
{
    channel->waiting++;
    wake_all(&channel->waiting);
}

void receive_from(struct channel *channel)
{
    while (channel->waiting == 0)
        wait_while(&channel->waiting, 0);
    channel->waiting--;
}

void sleep_ms(int milliseconds)
{
    struct timespec time = { milliseconds / 1000, milliseconds % 1000 * 1000000L };
    nanosleep(&time, NULL);
}

void name_thread(const char *name)
{
    prctl(PR_SET_NAME, name);
}

struct beginning {
    const char *name;
    void *(*run)(void *);
    void *argument;
    _Atomic pid_t id;
};

static void *begin(void *argument)
{
    struct beginning *beginning = argument;
    name_thread(beginning->name);
    beginning->id = (pid_t)syscall(SYS_gettid);
    return beginning->run(beginning->argument);
}

_Atomic pid_t *start_thread(const char *name, void *(*run)(void *), void *argument)
{
    struct beginning *beginning = calloc(1, sizeof *beginning);
    pthread_t thread;
    if (!beginning)
        die("calloc");
    *beginning = (struct beginning){ .name = strdup(name), .run = run, .argument = argument };
    if (pthread_create(&thread, NULL, begin, beginning))
        die("pthread_create");
    while (beginning->id == 0)
        sched_yield();
    return &beginning->id;
}

void signal_thread(pid_t thread, int signal)
{
    syscall(SYS_tkill, thread, signal);
}

void handle_signal(int signal, void (*handler)(int))
{
    struct sigaction action = { .sa_handler = handler };
    if (sigaction(signal, &action, NULL))
        die("sigaction");
}
