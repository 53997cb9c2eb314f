// What a C++ program includes to load, run and save BDH models: Model, LazyModel, Session, generate,
// Scheduler, convert_weights, quantized, LoRA adapters, validate, and the errors they throw.
#pragma once

#include "bdh/base/error.h"
#include "bdh/model/session.h"
#include "bdh/model/session_file.h"
#include "bdh/pretrained/adapters/by_head.h"
#include "bdh/pretrained/adapters/extract.h"
#include "bdh/pretrained/adapters/load_adapter.h"
#include "bdh/pretrained/adapters/lora.h"
#include "bdh/pretrained/adapters/peft.h"
#include "bdh/pretrained/convert.h"
#include "bdh/pretrained/lazy_model.h"
#include "bdh/pretrained/model.h"
#include "bdh/pretrained/quantize.h"
#include "bdh/pretrained/validate.h"
#include "bdh/serve/scheduler.h"
#include "bdh/text/generation.h"
#include "kernels/backends.h"
