#include <hiredis/hiredis.h>

int main(void) {
  redisReader *reader = redisReaderCreate();
  redisReaderFree(reader);
  return 0;
}
