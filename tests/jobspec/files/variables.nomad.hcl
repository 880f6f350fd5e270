variable "image" {
  type        = string
  description = "What runs"
  default     = "nginx:1.27"
}

variable "ports" {
  type = map(number)
  default = {
    http  = 80
    https = "443"
  }
}

variable "replicas" {
  type    = number
  default = 3
  validation {
    condition     = var.replicas > 0 && var.replicas <= 10
    error_message = "There are 1 to 10 replicas."
  }
}

variable "checks" {
  type = list(object({
    path     = string
    interval = optional(string, "10s")
  }))
  default = [{ path = "/" }, { path = "/health", interval = "30s" }]
}

variables {
  environment = "staging"
}

locals {
  name   = "${local.prefix}-${var.environment}"
  prefix = lower("WEB")
  tags = concat(
    [for p in keys(var.ports) : "proto=${p}"],
    var.environment == "production" ? ["public"] : [],
  )
  config = jsonencode({
    image = var.image
    env   = { for k, v in var.ports : upper(k) => tostring(v) if v != 80 }
  })
}

job "nginx" {
  name        = local.name
  datacenters = ["${var.environment}-*"]

  group "web" {
    count = var.replicas

    network {
      dynamic "port" {
        for_each = var.ports
        labels   = [port.key]
        content {
          to = port.value
        }
      }
    }

    dynamic "service" {
      for_each = var.ports
      iterator = p
      content {
        name     = "${local.name}-${p.key}"
        port     = p.key
        provider = "nomad"
        tags     = local.tags
        dynamic "check" {
          for_each = var.checks
          content {
            type     = "http"
            path     = check.value.path
            interval = check.value.interval
            timeout  = "2s"
          }
        }
      }
    }

    task "nginx" {
      driver = "docker"
      config {
        image = var.image
        ports = keys(var.ports)
      }
      env {
        CONFIG = local.config
        NODE   = "${node.unique.name}"
        HOST   = attr.unique.hostname
        HOME   = "${env["HOME"]}/x"
      }
    }
  }
}
