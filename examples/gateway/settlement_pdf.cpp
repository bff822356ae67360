#include "settlement_pdf.hpp"

#include <fmt/format.h>

#include <cstddef>
#include <string_view>
#include <vector>

namespace gateway {

namespace {

/// A string object. What Helvetica has no glyph for becomes a question mark.
std::string text(std::string_view plain) {
  std::string escaped{"("};
  for (const char each : plain) {
    if (each == '(' || each == ')' || each == '\\') escaped += '\\';
    escaped += each >= ' ' && each <= '~' ? each : '?';
  }
  return escaped + ')';
}

}  // namespace

/// Source: ISO 32000-1, sections 7.3 and 7.5.
std::string pdf_of(const tenantry::tenant_id& tenant, const settlement& what) {
  const std::string page =
      fmt::format("BT /F1 18 Tf 72 770 Td {} Tj 0 -36 Td /F1 12 Tf {} Tj 0 -18 Td {} Tj 0 -18 Td {} Tj ET",
                  text("Settlement " + what.id), text("Tenant: " + tenant.str()), text("Property: " + what.property),
                  text(fmt::format("Year {}: {:.1f} kWh", what.year, what.kwh)));
  const std::vector<std::string> objects{
      "<< /Type /Catalog /Pages 2 0 R >>",
      "<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
      "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents 4 0 R /Resources << /Font << /F1 5 0 R >> >> >>",
      fmt::format("<< /Length {} >>\nstream\n{}\nendstream", page.size(), page),
      "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
  };
  std::string pdf{"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n"};
  std::string places;
  for (std::size_t i = 0; i < objects.size(); ++i) {
    places += fmt::format("{:010} 00000 n \n", pdf.size());
    pdf += fmt::format("{} 0 obj\n{}\nendobj\n", i + 1, objects[i]);
  }
  return pdf +
         fmt::format("xref\n0 {}\n0000000000 65535 f \n{}trailer << /Size {} /Root 1 0 R >>\nstartxref\n{}\n%%EOF\n",
                     objects.size() + 1, places, objects.size() + 1, pdf.size());
}

}  // namespace gateway
