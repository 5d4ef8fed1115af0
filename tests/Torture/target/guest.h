// The guest: real-mode code that reads its TSC over and over. BX points to a vCPU's own block, BP to what it does in between.
#pragma once

#define BLOCK_TSC 0         // the last one read
#define BLOCK_ITERATIONS 8
#define BLOCK_TOLERANCE 16  // by how much it may go backwards
#define BLOCK_VIOLATIONS 24 // times it did by more, or the VMM answered wrongly
#define BLOCK_COUNTER 28    // what is written to the port or the device next, less one
#define BLOCK_STEP 32       // the last step back that was too large
#define BLOCK_SIZE 64

#define GUEST_PORT 0x510
#define GUEST_DEVICE 0x20000 // outside of its memory; ES points there

#ifndef __ASSEMBLER__
#include <stdint.h>

struct block {
    volatile uint64_t tsc, iterations, tolerance;
    volatile uint32_t violations, counter;
    volatile uint64_t step;
    uint64_t padding[3];
};

_Static_assert(sizeof(struct block) == BLOCK_SIZE, "");

extern const uint8_t guest[], guest_spin[], guest_halt[], guest_port[], guest_device[], guest_end[];
#endif
