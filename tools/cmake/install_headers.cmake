# Installs the headers that programs include, and those that they include in turn; the others are private.
# In: BDH_SOURCE, BDH_INCLUDE_DIR (where to, below the prefix).

cmake_policy(VERSION 3.22)
set(waiting bdh/bdh.h bdh/bdh_c.h bdh/train/checkpoint_manager.h bdh/train/data.h bdh/train/model_saver.h bdh/train/trainer.h)
set(public "")
while(waiting)
  list(POP_FRONT waiting header)
  if(header IN_LIST public)
    continue()
  endif()
  list(APPEND public ${header})
  file(STRINGS ${BDH_SOURCE}/${header} includes REGEX "^#include \"")
  foreach(include ${includes})
    string(REGEX REPLACE "^#include \"([^\"]+)\".*" "\\1" include ${include})
    list(APPEND waiting ${include})
  endforeach()
endwhile()

foreach(header ${public})
  get_filename_component(folder ${header} DIRECTORY)
  file(INSTALL ${BDH_SOURCE}/${header} DESTINATION ${CMAKE_INSTALL_PREFIX}/${BDH_INCLUDE_DIR}/${folder})
endforeach()
