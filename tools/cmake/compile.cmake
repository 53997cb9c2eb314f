# How every target is compiled: warnings, sanitizers, ccache and precompiled headers.

set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release)
endif()

# Users of the library inherit none of these.
add_library(bdh_flags INTERFACE)
target_include_directories(bdh_flags INTERFACE ${PROJECT_SOURCE_DIR})
target_compile_options(bdh_flags INTERFACE
  $<$<NOT:$<COMPILE_LANGUAGE:CUDA>>:-Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wno-sign-conversion>
  $<$<COMPILE_LANGUAGE:CUDA>:-Xcompiler=-Wall,-Wextra>)
if(BDH_WERROR)
  target_compile_options(bdh_flags INTERFACE $<IF:$<COMPILE_LANGUAGE:CUDA>,-Werror=all-warnings,-Werror>)
endif()
if(BDH_SANITIZE)
  target_compile_options(bdh_flags INTERFACE -fsanitize=${BDH_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all -g1)
  target_link_options(bdh_flags INTERFACE -fsanitize=${BDH_SANITIZE})
endif()

# What is compiled anew in a fast build, and whose own speed nobody waits for.
add_library(bdh_quick_flags INTERFACE)
target_link_libraries(bdh_quick_flags INTERFACE bdh_flags)
target_compile_options(bdh_quick_flags INTERFACE $<$<NOT:$<CONFIG:Debug>>:-O1>)

# The example in C, linked with the static library.
function(bdh_add_c_example name)
  add_executable(${name} ${PROJECT_SOURCE_DIR}/tools/examples/generate.c)
  set_target_properties(${name} PROPERTIES C_STANDARD 99 C_EXTENSIONS OFF LINKER_LANGUAGE CXX)
  target_link_libraries(${name} PRIVATE bdh bdh_flags)
endfunction()

# Objects are found again by what went into them, whichever folder the sources lie in.
find_program(BDH_CCACHE_PROGRAM ccache)
if(BDH_CCACHE AND BDH_CCACHE_PROGRAM AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  set(bdh_ccache env CCACHE_BASEDIR=${PROJECT_SOURCE_DIR} CCACHE_NOHASHDIR=1
    CCACHE_SLOPPINESS=pch_defines,time_macros,include_file_mtime,include_file_ctime ${BDH_CCACHE_PROGRAM})
  set(CMAKE_C_COMPILER_LAUNCHER ${bdh_ccache})
  set(CMAKE_CXX_COMPILER_LAUNCHER ${bdh_ccache})
endif()
# Standard headers, parsed once: target_precompile_headers(TARGET REUSE_FROM bdh_std). What clang precompiles holds paths, so that
# ccache does not find it again in another folder: with clang++ only where many sources are compiled, tests under sanitizers.
# clang-tidy, without them, sees that no #include is missing.
if(CMAKE_CXX_COMPILER_ID STREQUAL GNU AND NOT CMAKE_DISABLE_PRECOMPILE_HEADERS)
  target_compile_options(bdh_flags INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-fpch-preprocess>)  # for ccache
elseif(CMAKE_CXX_COMPILER_ID MATCHES Clang AND BDH_SANITIZE AND BDH_TESTS)
  target_compile_options(bdh_flags INTERFACE $<$<COMPILE_LANGUAGE:CXX>:SHELL:-Xclang -fno-pch-timestamp>)
else()
  set(CMAKE_DISABLE_PRECOMPILE_HEADERS ON)
endif()
file(CONFIGURE OUTPUT ${PROJECT_BINARY_DIR}/nothing.cpp CONTENT "")
set(bdh_std_headers <algorithm> <array> <atomic> <charconv> <chrono> <cmath> <cstdint> <cstdio> <cstring> <filesystem> <fstream>
  <functional> <iostream> <limits> <map> <memory> <mutex> <optional> <set> <span> <sstream> <stdexcept> <string> <string_view>
  <thread> <unordered_map> <utility> <vector>)
add_library(bdh_std OBJECT ${PROJECT_BINARY_DIR}/nothing.cpp)
target_link_libraries(bdh_std PRIVATE bdh_flags)
target_precompile_headers(bdh_std PRIVATE ${bdh_std_headers})
