// What a C++ program includes to load, run, save and convert a BDH model: Model, Session, generate, and the
// errors they throw. Knows no details; each header says its own.
#pragma once

#include "bdh/base/error.h"
#include "bdh/model/session.h"
#include "bdh/pretrained/convert.h"
#include "bdh/pretrained/lazy_model.h"
#include "bdh/pretrained/model.h"
#include "bdh/text/generation.h"
