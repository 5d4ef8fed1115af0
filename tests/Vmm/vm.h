// A VM of KVM's with the guest in it, without any idea of when what is done: that is what VMMs differ in.
#pragma once
#include <linux/kvm.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "guest.h"

// When something was done: CLOCK_REALTIME, in ns, just before and just after. Or how long it was between two such things, at least and at most.
struct span {
    uint64_t from, to;
};

struct vcpu {
    int id, fd, copy; // copy: a duplicate of fd, -1 if there is none
    struct kvm_run *run;
    struct span tsc_away; // from when the TSC was saved that was written last until it was
};

// What a snapshot has of a vCPU.
struct vcpu_state {
    struct kvm_mp_state mp;
    struct kvm_regs regs;
    struct kvm_sregs sregs;
    struct kvm_lapic_state lapic;
    struct kvm_vcpu_events events;
    uint64_t tsc, tsc_deadline, system_time; // MSRs
    struct span tsc_read;
    uint32_t tsc_khz;
};

// ... and of the VM.
struct vm_clock {
    struct kvm_clock_data data;
    struct span read;
};

extern struct vcpu vcpus[GUEST_MOST_VCPUS];
extern int vcpu_count;
extern uint64_t set_clock_ticks; // of the host's TSC, in the last KVM_SET_CLOCK
extern struct span clock_away;   // from when the clock was read that was set then

_Noreturn void die(const char *what);

void create_vm(bool splits_irqchip);
void create_vcpu(int id);
void duplicate_vcpu(int id);
void start_guest(int id); // its registers at its entry
void *guest_memory(void);
struct area *guest_area(int id);

void save_vcpu(int id, struct vcpu_state *state);
void restore_registers(int id, const struct vcpu_state *state); // and the local APIC; the MSRs come after these
void restore_tsc(int id, const struct vcpu_state *state);
void restore_events(int id, const struct vcpu_state *state);
uint32_t get_tsc_khz(int id);
void set_tsc_khz(int id, uint32_t khz);
uint64_t get_msr(int id, uint32_t index);
void set_msr(int id, uint32_t index, uint64_t value);
uint64_t get_tsc_offset(int id);
void set_tsc_offset(int id, uint64_t offset);
struct vm_clock get_clock(void);
void set_clock(const struct vm_clock *clock, uint32_t flags);
int tell_stopped(int fd); // KVM_KVMCLOCK_CTRL: 0, or errno
int vm_descriptor(void);

enum { MSR_TSC = 0x10, MSR_TSC_DEADLINE = 0x6E0, MSR_KVM_SYSTEM_TIME = 0x4B564D01 };
