// Threads created and joined all the while.
#include <errno.h>
#include <linux/futex.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "checks.h"
#include "hold.h"
#include "parts.h"

enum { churners = 2, at_once = 3, stack_size = 65536, longest_pause_ms = 60 };

struct child {
    pthread_t thread;
    pthread_attr_t attributes;
    uint64_t seed;
};

static _Atomic bool wants_pause;
static _Atomic int paused_count;
static _Thread_local uint64_t thread_local_word;

static void *live_shortly(void *argument)
{
    const struct child *child = argument;
    uint64_t state = child->seed;
    if (thread_local_word)
        return NULL;
    thread_local_word = state;
    for (int i = 0; i < 3000; i++)
        next_random(&state);
    if (state % 2)
        sleep_ms((unsigned)(state % 4));
    return thread_local_word == child->seed ? (void *)(uintptr_t)(state | 1) : NULL;
}

static uint64_t expected_of(uint64_t state)
{
    for (int i = 0; i < 3000; i++)
        next_random(&state);
    return state | 1;
}

// Their stacks stay the same, so that the number of mappings does.
static void prepare_stack(struct child *child)
{
    void *stack = mmap(NULL, stack_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (stack == MAP_FAILED)
        die("mmap");
    pthread_attr_init(&child->attributes);
    pthread_attr_setstack(&child->attributes, stack, stack_size);
}

static void *churn(void *argument)
{
    struct check *check = argument;
    struct child children[at_once];
    uint64_t random = (uint64_t)(uintptr_t)check | 1;
    for (int i = 0; i < at_once; i++)
        prepare_stack(&children[i]);
    for (;;) {
        for (int i = 0; i < at_once; i++) {
            children[i].seed = next_random(&random);
            int error = pthread_create(&children[i].thread, &children[i].attributes, live_shortly, &children[i]);
            if (error) {
                errno = error;
                die("pthread_create");
            }
        }
        for (int i = 0; i < at_once; i++) {
            void *result;
            int error = pthread_join(children[i].thread, &result);
            if (error || (uint64_t)(uintptr_t)result != expected_of(children[i].seed))
                deviation(check, "a thread ended with %p: join says %d", result, error);
        }
        held(check);
        sleep_ms((unsigned)(next_random(&random) % longest_pause_ms));
        if (wants_pause) {
            paused_count++;
            while (wants_pause)
                sleep_ms(5);
            paused_count--;
        }
    }
    return NULL;
}

void pause_churn(bool paused)
{
    wants_pause = paused;
    while (paused_count != (paused ? churners : 0))
        sleep_ms(2);
}

void start_churn(void)
{
    for (int i = 0; i < churners; i++)
        start_thread(churn, new_check("threads created and joined %d", i));
}
