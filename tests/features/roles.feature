Feature: A role watches what the role is for

  Background:
    Given a buyer ada
    And a node oslo
    And an admin root
    And a service shop

  Scenario Outline: <name> watching <channel> is <answer>
    When <name> tries to watch <channel> over <transport>
    Then it is <answer>

    Examples: over WebSocket
      | name | channel        | transport | answer               |
      | ada  | buyer:ada      | WebSocket | granted              |
      | ada  | node:oslo      | WebSocket | refused as forbidden |
      | ada  | market:intents | WebSocket | refused as forbidden |
      | ada  | admin:market   | WebSocket | refused as forbidden |
      | oslo | node:oslo      | WebSocket | granted              |
      | oslo | market:intents | WebSocket | granted              |
      | oslo | buyer:ada      | WebSocket | refused as forbidden |
      | root | buyer:ada      | WebSocket | granted              |
      | root | admin:market   | WebSocket | granted              |
      | shop | buyer:shop     | WebSocket | refused as forbidden |
      | shop | order:o1       | WebSocket | refused as forbidden |

    Examples: over SSE
      | name | channel        | transport | answer               |
      | ada  | buyer:ada      | SSE       | granted              |
      | ada  | node:oslo      | SSE       | refused as forbidden |
      | oslo | market:intents | SSE       | granted              |
      | root | admin:market   | SSE       | granted              |
      | shop | order:o1       | SSE       | refused as forbidden |

  Scenario Outline: a channel that is none is refused as <code>, whoever asks
    When root tries to watch the channel "<channel>" over <transport>
    Then it is refused as <code>

    Examples:
      | channel      | transport | code            |
      | buyer:*      | WebSocket | invalid_channel |
      | buyer:>      | SSE       | invalid_channel |
      | buyer        | SSE       | invalid_channel |
      | weather:oslo | WebSocket | unknown_channel |
      | weather:oslo | SSE       | unknown_channel |

  Scenario: a token may narrow what its role allows
    When ada tries to watch buyer:ada over SSE with a token for order:* only
    Then it is refused as forbidden

  Scenario: only a service publishes
    When ada tries to publish an ORDER_CREATED of ada with oslo
    Then it is refused as forbidden

  Scenario: an event that does not fit names the field
    When an ORDER_CREATED of ada with oslo is published with "-5" as its amount
    Then it is refused as invalid_event
    And the field /data/total/amount is named
