variable "project" {
  description = "The Google Cloud project."
  type        = string
}

variable "lake" {
  description = "The lake's bucket, made here; its name is unique in the world."
  type        = string
}

variable "region" {
  description = "Where everything is, the bucket too: crossing regions costs by the byte."
  type        = string
  default     = "europe-west4"
}

variable "gpu_zones" {
  description = "Zones of the region that have the GPU. More of them, more spot capacity."
  type        = list(string)
  default     = ["europe-west4-a", "europe-west4-b", "europe-west4-c"]
}

variable "gpu_machine" {
  description = "Machine type of GPU nodes."
  type        = string
  default     = "g2-standard-8"
}

variable "gpu_type" {
  description = "The accelerator in it: one a node, as flow runs ask for one."
  type        = string
  default     = "nvidia-l4"
}

variable "gpus" {
  description = "The most GPU nodes at a time. None are kept while nothing runs."
  type        = number
  default     = 8
}

# infra/kubernetes/network-policies.yaml names these ranges, too; a test compares them.
variable "ranges" {
  description = "Address ranges, none of them in use in a network that this one is joined to."
  type = object({
    nodes    = string
    gateway  = string
    services = string
    pods     = string
    cluster  = string
    control  = string
  })
  default = {
    nodes    = "10.80.0.0/20"
    gateway  = "10.80.16.0/23"
    services = "10.80.32.0/20"
    pods     = "10.81.0.0/16"
    cluster  = "10.82.0.0/20"
    control  = "172.16.0.0/28"
  }
}
