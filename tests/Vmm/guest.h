// What the stand-in VMM and its guest share: where things are in the guest's memory, and what the guest logs there.
#pragma once
#include <stdint.h>

enum {
    GUEST_MEMORY = 0x200000,
    GUEST_TABLES = 0x1000, // page tables, to 0x7000
    GUEST_GDT = 0x8000,
    GUEST_IDT = 0x9000,
    GUEST_TSS = 0xA000,
    GUEST_CODE = 0x10000,
    GUEST_AREAS = 0x100000, // one for each vCPU
    GUEST_AREA_SIZE = 0x10000,
    GUEST_STACK = 0xE000,  // its top, in the area
    GUEST_RECORD = 0xF000, // KVM's pvclock record, in the area
    GUEST_TIMER_VECTOR = 0x40,
    GUEST_EVENTS = 128,
    GUEST_MOST_VCPUS = 8,
};

// The guest's clocks at one instant, which KVM itself tells (KVM_HC_CLOCK_PAIRING): CLOCK_REALTIME of the host, the vCPU's TSC, and kvmclock at that TSC, as the guest
// computes it from the record.
struct sample {
    uint64_t real, tsc, clock;
};

// Where the number of ticks between two samples is, given by the VMM.
#define GUEST_NAP 0xB000

// Two samples of a vCPU in a row between which it stood still, or its kvmclock and the host's time parted.
struct event {
    struct sample before, after;
};

// Of one vCPU, at the start of its area.
struct area {
    uint64_t is_amd;  // which instruction is a hypercall, given by the VMM
    uint64_t samples; // how many were taken
    struct sample last;
    uint64_t clock_backwards, tsc_backwards; // how often a reading was less than the one before
    uint64_t mismatches;                     // how often KVM's TSC was not between the guest's own readings before and after
    uint64_t unpaired;                       // how often KVM could not tell
    uint64_t stopped;                        // how often the record said that the VMM had stopped it, which this ends, as Linux does
    uint64_t events;
    struct event event[GUEST_EVENTS];
};

extern const uint8_t __start_guest[], __stop_guest[]; // its code, by the linker
extern const uint8_t guest_entry[], guest_timer[];
