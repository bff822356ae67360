#pragma once
// A client of `text/event-stream`, written from section 9.2.6 of the HTML standard and from nothing else.

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace support {

/// What a client hands to its listeners.
struct sse_message {
  std::string type;
  std::string data;
  std::string last_event_id;

  friend bool operator==(const sse_message&, const sse_message&) = default;
};

/// Takes the bytes of one connection in pieces of any size; what is not complete at the end is dropped.
///
/// Bytes stay what they are, while a browser decodes them as UTF-8. That changes no line and no field: a wrong sequence
/// becomes U+FFFD and never takes a following ASCII byte with it.
class sse_parser {
 public:
  std::vector<sse_message> messages;
  std::vector<std::string> comments;        ///< each line, without its colon
  std::vector<std::string> unknown_fields;  ///< names
  std::vector<std::uint64_t> retries;       ///< those that set the reconnection time
  std::string last_event_id;                ///< what the client would send when it connects again

  void feed(std::string_view bytes) {
    for (const char c : bytes) take(c);
  }

 private:
  // Lines end with CRLF, or an LF without a CR before it, or a CR without an LF behind it.
  void take(char c) {
    const bool second_half = std::exchange(after_cr_, c == '\r') && c == '\n';
    if (second_half) return;
    if (c != '\r' && c != '\n') {
      line_ += c;
      return;
    }
    std::string line = std::exchange(line_, {});
    if (std::exchange(at_start_, false) && line.starts_with("\xef\xbb\xbf")) line.erase(0, 3);
    process(line);
  }

  void process(const std::string& line) {
    if (line.empty()) return dispatch();
    const std::size_t colon = line.find(':');
    if (colon == 0) {
      comments.push_back(line.substr(1));
    } else if (colon == std::string::npos) {
      process_field(line, "");
    } else {
      std::string value = line.substr(colon + 1);
      if (!value.empty() && value[0] == ' ') value.erase(0, 1);
      process_field(line.substr(0, colon), value);
    }
  }

  void process_field(const std::string& name, const std::string& value) {
    if (name == "event") {
      type_buffer_ = value;
    } else if (name == "data") {
      data_buffer_ += value;
      data_buffer_ += '\n';
    } else if (name == "id") {
      if (value.find('\0') == std::string::npos) id_buffer_ = value;
    } else if (name == "retry") {
      // The standard's words let an empty value pass as digits only; browsers and this ignore it.
      if (!value.empty() && std::all_of(value.begin(), value.end(), [](char c) { return c >= '0' && c <= '9'; })) {
        retries.push_back(std::stoull(value));
      }
    } else {
      unknown_fields.push_back(name);
    }
  }

  void dispatch() {
    last_event_id = id_buffer_;
    const std::string type = std::exchange(type_buffer_, {});
    std::string data = std::exchange(data_buffer_, {});
    if (data.empty()) return;
    data.pop_back();  // always the LF of the last data line
    messages.push_back({type.empty() ? "message" : type, std::move(data), last_event_id});
  }

  std::string line_;
  bool after_cr_ = false;
  bool at_start_ = true;
  std::string type_buffer_;
  std::string data_buffer_;
  std::string id_buffer_;
};

}  // namespace support
