# BDH_MINIMAL: what the library goes without, and how it is compiled.

# Parts and programs that a minimal build never has.
foreach(part BDH_TORCH BDH_TOKENIZERS BDH_MPI BDH_CUDA BDH_SHARED BDH_TOOLS BDH_TESTS BDH_FUZZ BDH_BENCH)
  set(${part} OFF)
endforeach()
set(CMAKE_DISABLE_PRECOMPILE_HEADERS ON)
enable_language(C)

# bdh_leave_out(LIST...): no training, and no tokenizer but bytes. The definition BDH_MINIMAL says so to what would ask for them.
function(bdh_leave_out)
  foreach(list ${ARGN})
    list(FILTER ${list} EXCLUDE REGEX "/(bdh/train/|bdh/text/byt5|kernels/(cpu/(generic/)?)?training)[^/]*(/[^/]*)?\\.cpp$")
    set(${list} ${${list}} PARENT_SCOPE)
  endforeach()
endfunction()

option(BDH_LTO "optimize a minimal build as a whole: smaller, and longer to compile" ON)

# Kernels keep -O3. Objects hold machine code as well, for linkers without g++'s plugin, which makes one program of the rest.
function(bdh_compile_small)
  target_compile_definitions(bdh PRIVATE BDH_MINIMAL)
  target_compile_options(bdh PRIVATE -Os -ffunction-sections -fdata-sections -fvisibility=hidden)
  set(link -Wl,--gc-sections)
  if(BDH_LTO AND CMAKE_CXX_COMPILER_ID STREQUAL GNU)
    target_compile_options(bdh PRIVATE -flto=auto -ffat-lto-objects)
    list(APPEND link -flto=auto)
  endif()
  target_link_options(bdh INTERFACE ${link})
  set(bdh_static_libraries ${link} ${bdh_static_libraries} PARENT_SCOPE)
endfunction()
