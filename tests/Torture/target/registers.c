#include <stdlib.h>
#include <sys/syscall.h>

#include "checks.h"
#include "hold.h"
#include "parts.h"

enum { spin_turns = 300000, calls = 20, pause_ms = 20 };

static void *spin(void *argument)
{
    struct check *check = argument;
    struct signal_state signals;
    struct holder *holder = aligned_alloc(64, sizeof *holder);
    holder_init(holder, true);
    signal_state_init(&signals);
    for (;;) {
        hold_spin(holder, check, spin_turns);
        check_signal_state(&signals, check);
        held(check);
    }
    return NULL;
}

static void *call(void *argument)
{
    static const long none[6];
    struct check *check = argument;
    struct holder *holder = aligned_alloc(64, sizeof *holder);
    holder_init(holder, true);
    for (;;) {
        for (int i = 0; i < calls; i++) {
            long parent = hold_syscall(holder, check, SYS_getppid, none);
            if (parent < 0)
                deviation(check, "getppid returned %ld", parent);
            held(check);
        }
        sleep_ms(pause_ms);
    }
    return NULL;
}

void start_registers(void)
{
    for (int i = 0; i < options.spinners; i++)
        start_thread(spin, new_check("registers, user mode %d", i));
    start_thread(call, new_check("registers, system calls"));
}
