// The guest of the stand-in VMM: 64 bits, no operating system. Each vCPU reads its clocks fifty times a second, logs what is wrong with them, and halts until its
// TSC-deadline timer wakes it. It has no device: its log is in its memory.
//
// Compiled with -mgeneral-regs-only -fPIC; whatever it needs is in this section.
#include "guest.h"
#include <stddef.h>

#define GUEST __attribute__((section("guest")))
#define TEXT_OF(value) #value
#define TEXT(value) TEXT_OF(value)

enum {
    MSR_TSC_DEADLINE = 0x6E0,
    MSR_KVM_SYSTEM_TIME = 0x4B564D01,
    KVM_HC_CLOCK_PAIRING = 9,
    APIC = 0xFEE00000,
    APIC_TPR = 0x80,
    APIC_SPURIOUS = 0xF0,
    APIC_TIMER = 0x320,
    TIMER_BY_DEADLINE = 0x40000,
    WAS_STOPPED = 2,
};

static const uint64_t noticeable_ns = 100000, gap_ns = 700000000; // a vCPU of a busy host has to wait for some tenths of a second

// As KVM has it: Documentation/virt/kvm/x86/msr.rst, and hypercalls.rst.
struct record {
    uint32_t version, padding;
    uint64_t tsc, system_time;
    uint32_t multiplier;
    int8_t shift;
    uint8_t flags, padding2[2];
};

struct pairing {
    int64_t seconds, nanoseconds;
    uint64_t tsc;
    uint32_t flags, padding[9];
};

// The entry, with the area in rdi and a stack below it; and the timer's interrupt, which sets the next one: one that came just before the vCPU halted is not the last one then.
__asm__(".pushsection guest, \"ax\"\n"
        ".globl guest_entry, guest_timer\n"
        "guest_entry: jmp guest_main\n"
        "guest_timer: push %rax\n"
        "push %rcx\n"
        "push %rdx\n"
        "rdtsc\n"
        "mov $" TEXT(GUEST_NAP) ", %ecx\n"
        "add (%rcx), %eax\n"
        "adc $0, %edx\n"
        "mov $0x6E0, %ecx\n"
        "wrmsr\n"
        "mov $0xFEE000B0, %eax\n"
        "movl $0, (%rax)\n"
        "pop %rdx\n"
        "pop %rcx\n"
        "pop %rax\n"
        "iretq\n"
        ".popsection\n");

GUEST static void write_msr(uint32_t msr, uint64_t value)
{
    __asm__ volatile("wrmsr" ::"c"(msr), "a"((uint32_t)value), "d"((uint32_t)(value >> 32)) : "memory");
}

GUEST static uint64_t read_tsc(void)
{
    uint32_t low, high;
    __asm__ volatile("lfence; rdtsc; lfence" : "=a"(low), "=d"(high)::"memory");
    return (uint64_t)high << 32 | low;
}

GUEST static void set_apic(uint32_t offset, uint32_t value)
{
    *(volatile uint32_t *)(uintptr_t)(APIC + offset) = value;
}

GUEST static int64_t pair(const struct area *area, struct pairing *into)
{
    int64_t result;
    if (area->is_amd)
        __asm__ volatile("vmmcall" : "=a"(result) : "a"((int64_t)KVM_HC_CLOCK_PAIRING), "b"(into), "c"(0L) : "memory");
    else
        __asm__ volatile("vmcall" : "=a"(result) : "a"((int64_t)KVM_HC_CLOCK_PAIRING), "b"(into), "c"(0L) : "memory");
    return result;
}

// kvmclock at a TSC, which may be from just before the record was written.
GUEST static uint64_t clock_at(volatile struct record *record, uint64_t tsc)
{
    uint32_t version;
    uint64_t clock;
    do {
        version = record->version;
        __asm__ volatile("lfence" ::: "memory");
        int64_t since = (int64_t)(tsc - record->tsc);
        uint64_t ticks = (uint64_t)(since < 0 ? -since : since);
        ticks = record->shift < 0 ? ticks >> -record->shift : ticks << record->shift;
        uint64_t nanoseconds = (uint64_t)((unsigned __int128)ticks * record->multiplier >> 32);
        clock = record->system_time + (since < 0 ? -nanoseconds : nanoseconds);
        __asm__ volatile("lfence" ::: "memory");
    } while ((version & 1) || version != record->version);
    return clock;
}

GUEST static void note(struct area *area, const struct sample *now)
{
    const struct sample *before = &area->last;
    if (area->samples > 0) {
        int64_t parted = (int64_t)((now->real - before->real) - (now->clock - before->clock));
        area->clock_backwards += now->clock < before->clock;
        area->tsc_backwards += now->tsc < before->tsc;
        if ((uint64_t)(parted < 0 ? -parted : parted) > noticeable_ns || now->real - before->real > gap_ns) {
            struct event *event = &area->event[area->events % GUEST_EVENTS];
            event->before = *before;
            event->after = *now;
            area->events++;
        }
    }
    area->last = *now;
    area->samples++;
}

GUEST static void look(struct area *area, volatile struct record *record)
{
    struct pairing pairing;
    uint64_t before = read_tsc();
    if (pair(area, &pairing)) {
        area->unpaired++;
        return;
    }
    uint64_t after = read_tsc();
    if (pairing.tsc - before > after - before)
        area->mismatches++;
    struct sample now;
    now.real = (uint64_t)pairing.seconds * 1000000000 + (uint64_t)pairing.nanoseconds;
    now.tsc = pairing.tsc;
    now.clock = clock_at(record, pairing.tsc);
    if (record->flags & WAS_STOPPED) {
        record->flags &= (uint8_t)~WAS_STOPPED;
        area->stopped++;
    }
    note(area, &now);
}

GUEST __attribute__((used)) void guest_main(struct area *area)
{
    volatile struct record *record = (void *)((uintptr_t)area + GUEST_RECORD);
    write_msr(MSR_KVM_SYSTEM_TIME, (uintptr_t)record | 1);
    set_apic(APIC_TPR, 0);
    set_apic(APIC_SPURIOUS, 0x1FF);
    set_apic(APIC_TIMER, TIMER_BY_DEADLINE | GUEST_TIMER_VECTOR);
    write_msr(MSR_TSC_DEADLINE, read_tsc() + *(const uint32_t *)(uintptr_t)GUEST_NAP);
    for (;;) {
        look(area, record);
        __asm__ volatile("sti; hlt; cli" ::: "memory");
    }
}
