variable "zones" {
  type    = set(string)
  default = ["b", "a", "b"]
}
variable "pair" {
  type    = tuple([string, number])
  default = ["x", "7"]
}
variable "tree" {
  type = object({
    name  = string
    inner = optional(object({
      port = optional(number, 80)
      tags = optional(list(string), [])
    }), {})
  })
  default = { name = "n", extra = "dropped" }
}
variable "anything" {
  type    = any
  default = { a = [1, "two"] }
}
job "sets" {
  datacenters = [for z in var.zones : "dc-${z}"]
  meta = merge(
    { for k, v in var.zones : "zone_${k}" => v },
    {
      pair = "${var.pair[0]}${var.pair[1] + 1}"
      port = var.tree.inner.port
      tags = length(var.tree.inner.tags)
      any  = var.anything.a[1]
    },
  )
  group "g" {
    dynamic "volume" {
      for_each = setproduct(["data", "logs"], [true])
      labels   = [volume.value[0]]
      content {
        type      = "host"
        source    = volume.value[0]
        read_only = volume.value[1]
      }
    }
    dynamic "task" {
      for_each = { for z in var.zones : z => upper(z) }
      labels   = ["t-${task.key}"]
      content {
        driver = "raw_exec"
        config {
          command = "echo"
          args    = [task.value]
        }
        dynamic "template" {
          for_each = range(2)
          iterator = n
          content {
            destination = "local/${n.value}"
            data        = "${task.key}-${n.key}"
          }
        }
      }
    }
  }
}
