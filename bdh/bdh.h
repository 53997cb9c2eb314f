// What a C++ program includes to load and run a BDH model: Model, Session, generate, and the errors they
// throw. Knows no details; each header says its own.
#pragma once

#include "bdh/base/error.h"
#include "bdh/model/session.h"
#include "bdh/pretrained/model.h"
#include "bdh/text/generation.h"
