locals {
  nodes   = [{ name = "a", ip = "10.0.0.1", tags = ["x", "y"] }, { name = "b", ip = "10.0.0.2", tags = [] }]
  by_zone = { for n in local.nodes : n.name == "a" ? "first" : "rest" => n.name... }
  sizes   = { small = 1, "very large" = 3 }
  big     = 12345678901234567890
  set     = setunion(["b", "a"], ["c", "a"])
}
job "expressions" {
  meta {
    names      = join(",", local.nodes[*].name)
    ips        = join(",", local.nodes.*.ip)
    first_tag  = local.nodes[0].tags[1]
    zones      = jsonencode(local.by_zone)
    neg        = -local.sizes["very large"]
    math       = (1 + 2) * 3 - 10 / 4 % 2
    logic      = !(true && false) || 1 >= 2 ? "yes" : "no"
    exp        = 1e10
    big        = local.big
    float      = 0.1
    nested     = try(local.nodes[5].name, "none")
    can        = can(local.nodes[5])
    coalesce   = coalesce(null, "x")
    legacy     = local.nodes.0.name
    set        = join("", [for k, v in local.set : "${k}${v}"])
    grouped    = length(flatten([[1], [2, [3]]]))
    cidr       = cidrsubnet("10.0.0.0/8", 8, 3)
    time       = formatdate("YYYY-MM-DD", timeadd("2024-02-28T00:00:00Z", "48h"))
    hash       = substr(sha256("x"), 0, 8)
    yaml       = yamldecode("a: [1, yes]").a[1]
    same       = 1 == 1.0
    mixed      = true ? 1 : "one"
    null_gone  = null
  }
}
