// Names that carry the instruction set that a file is compiled for, BDH_ISA or another macro's value.
#pragma once

#define BDH_CONCAT2(a, b) a##b
#define BDH_CONCAT(a, b) BDH_CONCAT2(a, b)
#define BDH_STRING2(a) #a
#define BDH_STRING(a) BDH_STRING2(a)
